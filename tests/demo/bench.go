package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgdts/pgdts/tests/pgserver"
)

// bench is pgbench, started again whenever it ends: a client of it ends at the first error that it meets.
type bench struct {
	program, uri, dir string
	rate, clients     int
	stop              context.CancelFunc
	done              sync.WaitGroup
	mu                sync.Mutex
	current           *child
	starts            int
}

// benchPause is between two starts, so that a closed source is not hammered.
const benchPause = 500 * time.Millisecond

func startBench(server *pgserver.Server, dir string, clients, rate int) *bench {
	ctx, stop := context.WithCancel(context.Background())
	b := &bench{
		program: server.Binaries.Path("pgbench"), uri: server.URI(database), dir: dir,
		clients: clients, rate: rate, stop: stop,
	}
	b.done.Go(func() {
		for ctx.Err() == nil {
			b.once(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(benchPause):
			}
		}
	})
	return b
}

// once runs pgbench to its end. Its log names every transaction that the server has acknowledged; what it says of
// errors goes to a file.
func (b *bench) once(ctx context.Context) {
	output, err := os.OpenFile(filepath.Join(b.dir, "pgbench.out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer func() { _ = output.Close() }()
	command := apart(exec.Command(b.program, "-n", "-c", strconv.Itoa(b.clients), "-T", "3600", "-R", strconv.Itoa(b.rate),
		"-l", "--log-prefix", filepath.Join(b.dir, "pgbench-log"), b.uri))
	command.Stdout, command.Stderr = output, output
	session, err := startChild(command)
	if err != nil {
		return
	}
	b.mu.Lock()
	b.current = session
	b.starts++
	b.mu.Unlock()
	select {
	case <-session.exited:
	case <-ctx.Done():
		session.kill()
	}
}

// end stops pgbench for good. One that still writes is killed, and the last lines of its log are lost with it.
func (b *bench) end() {
	b.stop()
	b.done.Wait()
}

// refused waits until the running pgbench has ended by itself, as it does when the source refuses writes.
func (b *bench) refused(patience time.Duration) bool {
	b.mu.Lock()
	current := b.current
	b.mu.Unlock()
	if current == nil {
		return false
	}
	select {
	case <-current.exited:
		return true
	case <-time.After(patience):
		return false
	}
}

// acknowledged counts the transactions in the logs, and tells when the last of them was.
func (b *bench) acknowledged() (transactions int, last time.Time, err error) {
	paths, err := filepath.Glob(filepath.Join(b.dir, "pgbench-log.*"))
	if err != nil {
		return 0, last, err
	}
	for _, path := range paths {
		err := readLines(path, func(fields []string) {
			at, ok := finished(fields)
			if !ok {
				return
			}
			transactions++
			if at.After(last) {
				last = at
			}
		})
		if err != nil {
			return 0, last, err
		}
	}
	return transactions, last, nil
}

// finished reads a line: client, number, duration, script, seconds, microseconds. The duration is a word where the
// transaction was skipped or failed.
func finished(fields []string) (time.Time, bool) {
	if len(fields) < 6 {
		return time.Time{}, false
	}
	if _, err := strconv.ParseInt(fields[2], 10, 64); err != nil {
		return time.Time{}, false
	}
	seconds, errSeconds := strconv.ParseInt(fields[4], 10, 64)
	micros, errMicros := strconv.ParseInt(fields[5], 10, 64)
	return time.Unix(seconds, micros*1000), errSeconds == nil && errMicros == nil
}

func readLines(path string, each func(fields []string)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		each(strings.Fields(lines.Text()))
	}
	return lines.Err()
}
