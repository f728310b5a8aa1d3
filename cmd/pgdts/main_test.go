package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/server"
	"github.com/pgdts/pgdts/starter"
	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
)

// patience bounds every wait for something that takes a moment.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	binaries, err := filepath.Abs("../../bin")
	if err != nil {
		panic(err)
	}
	if _, err := os.Stat(filepath.Join(binaries, "temporal")); err != nil {
		fmt.Fprintln(os.Stderr, "bin/temporal is missing: build it with `make temporal`")
		os.Exit(1)
	}
	setenv("PATH", binaries+":"+os.Getenv("PATH"))
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "TEMPORAL_") {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	setenv("TEMPORAL_CONFIG_FILE", os.DevNull)
	directory, err := os.MkdirTemp("", "pgdts-cmd-")
	if err != nil {
		panic(err)
	}
	setenv("XDG_STATE_HOME", directory)
	code := m.Run()
	_ = os.RemoveAll(directory)
	os.Exit(code)
}

func setenv(name, value string) {
	if err := os.Setenv(name, value); err != nil {
		panic(err)
	}
}

// pgdts runs a command in this process.
func pgdts(arguments ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = execute(arguments, &out, &errs)
	return code, out.String(), errs.String()
}

// define writes a definition between two databases that nobody serves.
func define(t *testing.T, extra string) string {
	path := filepath.Join(t.TempDir(), "shop.yaml")
	content := fmt.Sprintf("source: {uri: %q}\ntarget: {uri: %q}\n%s",
		fmt.Sprintf("postgres://app:hunter2@127.0.0.1:%d/shop", closedPort(t)),
		fmt.Sprintf("postgres://owner@127.0.0.1:%d/shop", closedPort(t)), extra)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func closedPort(t *testing.T) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

func TestWrongUsageIsSaidInASentence(t *testing.T) {
	file := define(t, "")
	for _, c := range []struct {
		arguments string
		code      int
		says      string
	}{
		{"nonsense", 2, `unknown command "nonsense"`},
		{"run", 2, `"file" not set`},
		{"run -f absent.yaml", 2, "absent.yaml: no such file"},
		{"run --nonsense", 2, "nonsense"},
		{"run -f " + file + " --cutover sometimes", 2, "want auto or manual"},
		{"run -f " + define(t, "transfrom: []\n"), 2, `shop.yaml:3: key "transfrom" is not known; did you mean "transform"?`}, //nolint:misspell // the misspelling is the case
		{"start -f " + file, 2, "holds a password"},
		{"status a b", 2, "accepts at most 1 arg"},
		{"status -o xml", 2, "want text or json"},
		{"retry", 2, "give --connection, --other or both"},
		{"status --log-level", 2, "needs an argument"},
		{"check -f " + file + " --log-level loud", 2, "want debug, info, warn or error"},
		{"status", 1, "no Temporal service"},
		{"status --address 127.0.0.1:1", 1, "127.0.0.1:1 does not answer"},
		{"tables", 1, "-f FILE"},
		{"check -f " + file, 3, "refused"},
	} {
		code, stdout, stderr := pgdts(strings.Fields(c.arguments)...)
		require.Equal(t, c.code, code, "%s: %s%s", c.arguments, stdout, stderr)
		require.Contains(t, stdout+stderr, c.says, c.arguments)
		require.NotContains(t, stdout+stderr, "hunter2", c.arguments)
		require.True(t, strings.HasPrefix(stderr, "pgdts: "), c.arguments)
	}
}

func TestPreviewIsTheWorkflowsInput(t *testing.T) {
	file := define(t, "name: it's mine\n")
	code, _, stderr := pgdts("preview", "-f", file)
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "without space or slash")

	file = define(t, "name: it's-mine\n")
	code, stdout, stderr := pgdts("preview", "-f", file, "-o", "json")
	require.Equal(t, 0, code, stderr)
	require.NotContains(t, stdout, "hunter2")
	var shown struct {
		workflows.Input
		Command string
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &shown))
	require.NoError(t, shown.Spec.Validate())

	echo := strings.Replace(shown.Command, "temporal workflow start", `printf '%s\n'`, 1)
	out, err := exec.Command("sh", "-c", echo).Output()
	require.NoError(t, err)
	words := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Equal(t, []string{"--type", "Migration", "--task-queue", "pgdts", "--workflow-id", string(shown.Spec.ID), "--input"}, words[:7])
	var input workflows.Input
	require.NoError(t, json.Unmarshal([]byte(words[7]), &input))
	require.Equal(t, shown.Spec, input.Spec)
}

// TestRunOfAnEndedMigrationTouchesNothing: no service is started for it.
func TestRunOfAnEndedMigrationTouchesNothing(t *testing.T) {
	file, state := define(t, ""), t.TempDir()
	_, stdout, _ := pgdts("preview", "-f", file, "-o", "json")
	var shown workflows.Input
	require.NoError(t, json.Unmarshal([]byte(stdout), &shown))
	report := migration.Report{ID: shown.Spec.ID, Name: shown.Spec.Name, State: migration.PhaseFinished, Rows: 4711, Tables: 1}
	write := func() {
		content, err := json.Marshal(report)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(state, server.ReportFile), content, 0o600))
	}
	write()
	code, stdout, stderr := pgdts("run", "-f", file, "--state-dir", state)
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, "4,711 rows")
	code, stdout, stderr = pgdts("status", "-f", file, "--state-dir", state, "-o", "json")
	require.Equal(t, 0, code, stderr)
	var status migration.Status
	require.NoError(t, json.Unmarshal([]byte(stdout), &status))
	require.Equal(t, migration.PhaseFinished, status.Phase)

	report.State, report.Failure = migration.PhaseFailed, &migration.Fault{Kind: migration.FaultWindow, Message: "retry.connection ended"}
	write()
	code, _, stderr = pgdts("run", "-f", file, "--state-dir", state)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "retry.connection ended")
	require.Contains(t, stderr, "--again")
	require.NoFileExists(t, filepath.Join(state, "temporal.db"))
}

// binary is the program as a user runs it.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.Getenv("XDG_STATE_HOME"), "pgdts-under-test")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return path, nil
})

// process is a pgdts in the background.
type process struct {
	*exec.Cmd
	output *lockedBuffer
	done   chan struct{}
}

// lockedBuffer is written by a process and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func background(t *testing.T, arguments ...string) *process {
	path, err := binary()
	require.NoError(t, err)
	p := &process{Cmd: exec.Command(path, arguments...), output: &lockedBuffer{}, done: make(chan struct{})}
	p.Stdout, p.Stderr = p.output, p.output
	require.NoError(t, p.Start())
	go func() {
		_ = p.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("pgdts %s\n%s", strings.Join(arguments, " "), p.output.String())
		}
	})
	return p
}

func (p *process) exitCode(t *testing.T) int {
	select {
	case <-p.done:
		return p.ProcessState.ExitCode()
	case <-time.After(2 * patience):
		t.Fatal("pgdts did not end")
		return 0
	}
}

// TestRunFromAnotherTerminal drives a run whose precheck waits for a person, since its databases do not answer: found
// by its state directory, refused twice, killed, resumed, interrupted, stopped.
func TestRunFromAnotherTerminal(t *testing.T) {
	file, state := define(t, "precheck: {onFailure: wait}\n"), filepath.Join(t.TempDir(), "state")
	with := func(arguments ...string) []string { return append(arguments, "-f", file, "--state-dir", state) }
	waiting := func() migration.Status {
		var status migration.Status
		require.Eventually(t, func() bool {
			code, stdout, _ := pgdts(with("status", "-o", "json")...)
			return code == 0 && json.Unmarshal([]byte(stdout), &status) == nil && status.State == "attention"
		}, patience, 50*time.Millisecond)
		return status
	}

	first := background(t, with("run")...)
	status := waiting()
	require.Equal(t, migration.PhasePrecheck, status.Phase)
	require.Contains(t, status.Attention.Fault.Error(), "refused")
	require.NotEmpty(t, status.Precheck.Blocking())

	code, _, stderr := pgdts(with("run")...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, fmt.Sprintf("pid %d", first.Process.Pid))
	code, _, stderr = pgdts(with("cutover")...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "cutover is possible in phase incremental")
	code, stdout, stderr := pgdts("list", "--state-dir", state, "-o", "json")
	require.Equal(t, 0, code, stderr)
	var entries []starter.Entry
	require.NoError(t, json.Unmarshal([]byte(stdout), &entries))
	require.Len(t, entries, 1)
	require.Equal(t, status.ID, entries[0].ID)
	code, stdout, stderr = pgdts("retry", status.ID.Short(), "--state-dir", state, "--connection", "30m", "--other", "2m")
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, "retry.connection 30m0s, retry.other 2m0s")

	require.NoError(t, first.Process.Kill())
	<-first.done
	killed := time.Now()
	second := background(t, with("run")...)
	resumed := waiting()
	require.Less(t, time.Since(killed), 10*time.Second)
	t.Logf("resumed %s after SIGKILL", time.Since(killed).Round(time.Millisecond))
	require.Equal(t, status.ID, resumed.ID)
	require.Equal(t, status.Phases[0].Started, resumed.Phases[0].Started, "the same migration goes on")

	require.Eventually(t, func() bool { return strings.Contains(second.output.String(), "needs attention") }, patience, 50*time.Millisecond)
	interrupted := time.Now()
	require.NoError(t, second.Process.Signal(os.Interrupt))
	require.Equal(t, 130, second.exitCode(t))
	t.Logf("drained %s after Ctrl-C", time.Since(interrupted).Round(time.Millisecond))
	require.Contains(t, second.output.String(), "The same command goes on")
	require.NotContains(t, second.output.String(), "keeps WAL", "no slot has been made yet")

	third := background(t, with("run")...)
	waiting()
	code, _, stderr = pgdts(with("stop")...)
	require.Equal(t, 0, code, stderr)
	require.Equal(t, 1, third.exitCode(t))
	code, stdout, stderr = pgdts(with("report", "-o", "json")...)
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, `"state": "stopped"`)
	require.NoFileExists(t, filepath.Join(state, "address.json"))
	mustNotMention(t, state, "hunter2")
}

// mustNotMention looks for a secret in everything that a directory keeps.
func mustNotMention(t *testing.T, directory, secret string) {
	entries, err := os.ReadDir(directory)
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(directory, entry.Name()))
		require.NoError(t, err)
		require.NotContains(t, string(content), secret, entry.Name())
	}
}

// TestFailedPrecheckIsRunAgainWithoutCeremony: nothing was made, so a corrected definition or server may just be tried.
func TestFailedPrecheckIsRunAgainWithoutCeremony(t *testing.T) {
	file, state := define(t, ""), filepath.Join(t.TempDir(), "state")
	for range 2 {
		p := background(t, "run", "-f", file, "--state-dir", state)
		require.Equal(t, 3, p.exitCode(t), p.output.String())
		require.Contains(t, p.output.String(), "SOURCE_CONNECTION")
		require.Contains(t, p.output.String(), "TARGET_CONNECTION")
	}
}

// TestWorkerTellsItsHealth from before its service is up until it is told to stop.
func TestWorkerTellsItsHealth(t *testing.T) {
	directory, err := server.Open(t.TempDir(), "pgdts/any/abcdefghij", "test")
	require.NoError(t, err)
	t.Cleanup(func() { _ = directory.Close() })
	service, err := directory.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(service.Stop)

	listen := fmt.Sprintf("127.0.0.1:%d", closedPort(t))
	p := background(t, "worker", "--address", service.Address, "--listen", listen, "--task-queue", "q")
	require.Eventually(t, func() bool { code, _ := get(listen, "/healthz"); return code == http.StatusOK }, patience, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		code, body := get(listen, "/metrics")
		return code == http.StatusOK && strings.Contains(body, "temporal_")
	}, patience, 50*time.Millisecond)

	service.Stop()
	require.Eventually(t, func() bool { code, _ := get(listen, "/healthz"); return code == http.StatusServiceUnavailable }, patience, 50*time.Millisecond)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.exitCode(t))
}

func get(host, path string) (int, string) {
	response, err := http.Get("http://" + host + path)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, ""
	}
	return response.StatusCode, string(body)
}
