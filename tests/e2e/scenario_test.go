package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/load"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// binary is pgdts with failpoints, built once for the package.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pgdts-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pgdts")
	build := exec.Command("go", "build", "-tags", "failpoint", "-o", path, "../../cmd/pgdts")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pgdts: %w\n%s", err, out)
	}
	return path, nil
})

// scenario is one migration from one server to another, driven by the command line.
type scenario struct {
	t              *testing.T
	source, target *pgserver.Server
	from, to       *pgtest.DB
	dir            string
	file           string
	env            []string
}

// newScenario starts two servers and writes a definition; extra is YAML that is added to it.
func newScenario(t *testing.T, extra string) *scenario {
	t.Helper()
	return newScenarioOn(t, pgtest.Server(t), pgtest.Server(t), extra)
}

func newScenarioOn(t *testing.T, source, target *pgserver.Server, extra string) *scenario {
	t.Helper()
	s := &scenario{t: t, dir: t.TempDir(), source: source, target: target}
	s.from, s.to = pgtest.Database(t, s.source), pgtest.Database(t, s.target)
	s.file = filepath.Join(s.dir, "migration.yaml")
	s.define(extra)
	return s
}

func (s *scenario) define(extra string) {
	definition := fmt.Sprintf("name: shop\nsource: {uri: %q}\ntarget: {uri: %q}\n%s", s.from.URI, s.to.URI, extra)
	require.NoError(s.t, os.WriteFile(s.file, []byte(definition), 0o600))
}

// process is a running pgdts.
type process struct {
	*exec.Cmd
	t    *testing.T
	out  bytes.Buffer
	err  bytes.Buffer
	done chan struct{}
	exit error
}

func (s *scenario) command(args ...string) *process {
	path, err := binary()
	require.NoError(s.t, err)
	p := &process{Cmd: exec.Command(path, append(args, "--state-dir", filepath.Join(s.dir, "state"))...), t: s.t, done: make(chan struct{})}
	bin, err := filepath.Abs("../../bin")
	require.NoError(s.t, err)
	p.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	p.Env = append(p.Env, s.env...)
	p.Stdout, p.Stderr = &p.out, &p.err
	// The child dies with the test, and the server it started dies with it.
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return p
}

// start runs pgdts in the background; the test's end kills it.
func (s *scenario) start(env []string, args ...string) *process {
	p := s.command(args...)
	p.Env = append(p.Env, env...)
	require.NoError(s.t, p.Start())
	go func() {
		p.exit = p.Wait()
		close(p.done)
	}()
	s.t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
		if s.t.Failed() {
			s.t.Logf("pgdts %s\n%s%s", strings.Join(args, " "), p.out.String(), p.err.String())
			s.logTail()
		}
	})
	return p
}

func (s *scenario) logTail() {
	logs, _ := filepath.Glob(filepath.Join(s.dir, "state", "*log*"))
	for _, path := range logs {
		content, _ := os.ReadFile(path)
		lines := strings.Split(string(content), "\n")
		s.t.Logf("%s\n%s", path, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}

// run runs pgdts to its end and returns its exit code and output.
func (s *scenario) run(args ...string) (int, string, string) {
	p := s.command(args...)
	err := p.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("pgdts %v: %v", args, err)
	}
	return p.ProcessState.ExitCode(), p.out.String(), p.err.String()
}

// wait returns the exit code of a background process; -1 when a signal ended it.
func (p *process) wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("pgdts did not end within %s\n%s%s", limit, p.out.String(), p.err.String())
		return 0
	}
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// status is what `pgdts status -o json` says; ok is false while nothing answers.
func (s *scenario) status(which ...string) (status migration.Status, ok bool) {
	code, out, _ := s.run(append(append([]string{"status"}, which...), "-o", "json")...)
	return status, code == 0 && json.Unmarshal([]byte(out), &status) == nil
}

// await polls the status until it is as wanted, and fails when the process has ended before.
func (s *scenario) await(p *process, what string, want func(migration.Status) bool) migration.Status {
	s.t.Helper()
	return s.awaitStatus(p, what, want, "-f", s.file)
}

func (s *scenario) awaitID(p *process, id, what string, want func(migration.Status) bool) {
	s.t.Helper()
	s.awaitStatus(p, what, want, id)
}

func (s *scenario) awaitStatus(p *process, what string, want func(migration.Status) bool, which ...string) migration.Status {
	s.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	var last migration.Status
	for time.Now().Before(deadline) {
		status, ok := s.status(which...)
		if ok && want(status) {
			return status
		}
		last = status
		if !p.alive() {
			s.t.Fatalf("pgdts ended (%d) before %s", p.ProcessState.ExitCode(), what)
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatalf("%s did not happen; last status %+v", what, last)
	return last
}

func (s *scenario) awaitPhase(p *process, phase migration.Phase) {
	s.t.Helper()
	s.await(p, "phase "+string(phase), func(status migration.Status) bool { return status.Phase == phase })
}

// writers fills the source and starts clients.
func (s *scenario) writers(seed uint64) *load.Load {
	s.t.Helper()
	s.from.Exec(s.t, load.Schema)
	writers := load.Start(context.Background(), load.Config{
		URI: s.from.URI, Clients: 4, Operations: load.Operations, Seed: seed, Prepared: true, Pause: 5 * time.Millisecond,
		Persist: true,
	})
	s.t.Cleanup(func() { writers.Stop() })
	return writers
}

// mustBeEqual compares every table by hash, and the target with the clients' record.
func (s *scenario) mustBeEqual(outcome load.Outcome) {
	s.t.Helper()
	pgtest.MustEqual(s.t, s.from, s.to)
	conn, err := pgx.Connect(context.Background(), s.to.URI)
	require.NoError(s.t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	require.NoError(s.t, outcome.Check(context.Background(), conn))
	require.Positive(s.t, outcome.Commits())
}

// mustLeaveNothing asserts that slot, publications and walsenders are gone from the source.
func (s *scenario) mustLeaveNothing() {
	s.t.Helper()
	require.Empty(s.t, s.from.Query(s.t, "select slot_name::text from pg_replication_slots where slot_name like 'dts\\_sync%'"))
	require.Empty(s.t, s.from.Query(s.t, "select pubname::text from pg_publication where pubname like 'dts\\_sync%'"))
	s.from.WaitUntil(s.t, "select count(*) = 0 from pg_stat_activity where application_name like 'pgdts/%'") // servers end them when they see ours gone
}

func (s *scenario) report() migration.Report {
	s.t.Helper()
	code, out, errs := s.run("report", "-f", s.file, "-o", "json")
	require.Equal(s.t, 0, code, errs)
	var report migration.Report
	require.NoError(s.t, json.Unmarshal([]byte(out), &report))
	return report
}
