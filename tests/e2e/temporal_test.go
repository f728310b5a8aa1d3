package e2e

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
)

// withTemporal starts the server on the database file that a finished run has left, and stops it after the work.
func (s *scenario) withTemporal(t *testing.T, work func(address string)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "state", "*", "temporal.db"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	serveTemporal(t, files[0], work)
}

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
