package schema

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// ErrNoDump means that no pg_dump on this machine can read the source.
var ErrNoDump = errors.New("no pg_dump of the source's major version or newer on this machine")

// FindDump finds the newest pg_dump whose major is at least the source's, both as server_version_num (150018). It looks
// in $PGDTS_PG_BIN, in the directory that pg_config names, in /usr/lib/postgresql/*/bin and in PATH; of equal ones the
// first wins, because the wrapper that some distributions put into PATH chooses by clusters, not by us. The error is
// ErrNoDump where there is none.
func FindDump(sourceVersion int) (path string, version int, err error) {
	newest := 0
	for _, dir := range dumpDirs() {
		candidate := filepath.Join(dir, "pg_dump")
		found, err := dumpVersion(candidate)
		if err != nil {
			continue
		}
		newest = max(newest, found)
		if found/10000 >= sourceVersion/10000 && found > version {
			path, version = candidate, found
		}
	}
	if path == "" {
		return "", newest, fmt.Errorf("%w (source %d, newest found %d)", ErrNoDump, sourceVersion/10000, newest/10000)
	}
	return path, version, nil
}

func dumpDirs() []string {
	var dirs []string
	if named := os.Getenv("PGDTS_PG_BIN"); named != "" {
		dirs = append(dirs, named)
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	packaged, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is constant and well formed
	dirs = append(dirs, packaged...)
	return append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
}

// versionText is in "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"; betas have no minor.
var versionText = regexp.MustCompile(`\) (\d+)(?:\.(\d+))?`)

func dumpVersion(path string) (int, error) {
	if _, err := exec.LookPath(path); err != nil {
		return 0, err
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return 0, err
	}
	match := versionText.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("version of %s: %q", path, out)
	}
	major, _ := strconv.Atoi(string(match[1]))
	minor, _ := strconv.Atoi(string(match[2]))
	return major*10000 + minor, nil
}

// lockWait bounds how long pg_dump waits for a table that somebody has locked exclusively; then the step is retried.
const lockWait = 60 * time.Second

// dumpOptions: one order of literals whatever the role's settings say; the ledger's schema and subscriptions (whose
// DDL holds a password) stay out.
func dumpOptions(snapshot string, grants bool) []string {
	options := []string{
		"--format=custom", "--schema-only", "--encoding=UTF8", "--no-password", "--no-subscriptions",
		"--exclude-schema=dts_sync", "--snapshot=" + snapshot, fmt.Sprintf("--lock-wait-timeout=%d", lockWait.Milliseconds()),
	}
	if !grants {
		options = append(options, "--no-privileges")
	}
	return options
}

// dump runs pg_dump under a snapshot that the session conn exports, on the server that conn came to, and reads what it
// lists. A cancelled context ends the program. What it said is in the error; it never prints passwords, and none is among
// its arguments.
func dump(ctx context.Context, source *pg.Server, conn *pgx.Conn, program, application, snapshot string, grants bool) (Archive, error) {
	way, err := source.Program(ctx, conn, "-c standard_conforming_strings=on")
	if err != nil {
		return Archive{}, err
	}
	defer way.Close()
	command := exec.CommandContext(ctx, program, dumpOptions(snapshot, grants)...)
	command.Env = append(way.Env, "PGAPPNAME="+application, "LC_ALL=C")
	command.ExtraFiles = way.Files
	command.WaitDelay = 5 * time.Second
	var complaint bytes.Buffer
	command.Stderr = &limitedWriter{to: &complaint, left: complaintMax}
	out, err := command.StdoutPipe()
	if err != nil {
		return Archive{}, err
	}
	if err := command.Start(); err != nil {
		return Archive{}, fmt.Errorf("start %s: %w", program, err)
	}
	archive, readErr := ReadArchive(out)
	_, _ = io.Copy(io.Discard, out) // the program must not block on a full pipe
	waitErr := command.Wait()
	switch {
	case ctx.Err() != nil:
		return Archive{}, ctx.Err()
	case waitErr != nil:
		return Archive{}, fmt.Errorf("%s: %w: %s", filepath.Base(program), waitErr, firstLines(complaint.String()))
	}
	return archive, readErr
}

const (
	complaintMax      = 64 << 10
	complaintLinesMax = 4
)

func firstLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[:min(len(lines), complaintLinesMax)], "; ")
}

// limitedWriter forgets what is beyond its limit.
type limitedWriter struct {
	to   io.Writer
	left int
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	part := p[:min(len(p), w.left)]
	w.left -= len(part)
	if _, err := w.to.Write(part); err != nil {
		return 0, err
	}
	return len(p), nil
}

// noDump is the fault of a machine without a fitting pg_dump.
func noDump(err error) error {
	return migration.NewFault(migration.FaultOther, "find", "pg_dump", err,
		"install the PostgreSQL client programs of the source's version or newer, or set PGDTS_PG_BIN to their directory")
}
