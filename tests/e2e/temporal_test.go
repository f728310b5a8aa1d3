package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
)

// withTemporal starts the server on the database file that a finished run has left, and stops it after the work.
func (s *scenario) withTemporal(t *testing.T, work func(address string)) {
	t.Helper()
	var file string
	require.NoError(t, filepath.WalkDir(filepath.Join(s.dir, "state"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == "temporal.db" {
			file = path
		}
		return err
	}))
	require.NotEmpty(t, file)
	serveTemporal(t, file, work)
}

// history is the recorded execution of the finished migration, as `temporal workflow show` prints it.
func (s *scenario) history(t *testing.T) []byte {
	t.Helper()
	var history []byte
	s.withTemporal(t, func(address string) {
		out, err := exec.Command(temporalPath(t), "workflow", "show", "--address", address, "-w", string(s.report().ID), "-o", "json").Output()
		require.NoError(t, err)
		history = out
	})
	return history
}

// record keeps the history for tests/replay when PGDTS_RECORD names a directory (make record). Histories are recorded by
// the released code: one recorded by the code under test would agree with it.
func (s *scenario) record(t *testing.T, name string) {
	t.Helper()
	directory := os.Getenv("PGDTS_RECORD")
	if directory == "" {
		return
	}
	history := anyIdentity.ReplaceAll(s.history(t), []byte(`"identity": "pgdts"`))
	require.NoError(t, os.WriteFile(filepath.Join(directory, name+".json"), history, 0o600))
}

// anyIdentity is the process and host that did something.
var anyIdentity = regexp.MustCompile(`"identity":\s*"[^"]*"`)

// serveTemporal runs a dev server on a database file while work runs.
func serveTemporal(t *testing.T, file string, work func(address string)) {
	t.Helper()
	port := freePort(t)
	cmd := exec.Command(temporalPath(t), "server", "start-dev", "--db-filename", file, "--headless", "--ip", "127.0.0.1",
		"--port", fmt.Sprint(port), "--http-port", fmt.Sprint(freePort(t)), "--log-level", "error")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	require.Eventually(t, func() bool {
		c, err := client.Dial(client.Options{HostPort: address})
		if err != nil {
			return false
		}
		defer c.Close()
		_, err = c.CheckHealth(context.Background(), &client.CheckHealthRequest{})
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	work(address)
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}
