package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	testID = migration.ID("pgdts/shop/abcdefghij")
	// victimVariable makes the test binary a run that a test can kill: the state directory it works in.
	victimVariable = "PGDTS_TEST_VICTIM"
	// resumeMax is promised to the user.
	resumeMax = 10 * time.Second
)

// TestMain puts the pinned server on PATH, and turns the process into a victim where a test asks for one.
func TestMain(m *testing.M) {
	binaries, err := filepath.Abs("../../../../bin")
	if err != nil {
		panic(err)
	}
	if _, err := os.Stat(filepath.Join(binaries, "temporal")); err != nil {
		fmt.Fprintln(os.Stderr, "bin/temporal is missing: build it with `make temporal`")
		os.Exit(1)
	}
	if err := os.Setenv("PATH", binaries+":"+os.Getenv("PATH")); err != nil {
		panic(err)
	}
	if path := os.Getenv(victimVariable); path != "" {
		beVictim(path)
	}
	os.Exit(m.Run())
}

// beVictim starts a server as `run` does, says so, and waits to be killed.
func beVictim(path string) {
	d, err := Open(path, testID, "test")
	if err == nil {
		_, err = d.Start(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

// startVictim returns a run in another process that is ready, and its address.
func startVictim(t *testing.T, path string) (*exec.Cmd, Address) {
	self, err := os.Executable()
	require.NoError(t, err)
	victim := exec.Command(self, "-test.run=^$")
	victim.Env = append(os.Environ(), victimVariable+"="+path)
	out, err := victim.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, victim.Start())
	t.Cleanup(func() { _ = victim.Process.Kill() })
	line := make([]byte, 200)
	n, err := out.Read(line)
	require.NoError(t, err)
	require.Equal(t, "ready\n", string(line[:n]))
	address, err := readAddress(path)
	require.NoError(t, err)
	return victim, address
}

func open(t *testing.T, path string) *Directory {
	d, err := Open(path, testID, "test")
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func start(t *testing.T, d *Directory) *Server {
	server, err := d.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	return server
}

func dial(t *testing.T, address string) client.Client {
	connected, err := client.DialContext(t.Context(), client.Options{HostPort: address, Logger: silent{}})
	require.NoError(t, err)
	t.Cleanup(connected.Close)
	return connected
}

// TestKilledRunResumesOnTheSameFile is I1 and I2: after SIGKILL of the run its server ends, the next run works again
// within the promised time, and what was acknowledged is there.
func TestKilledRunResumesOnTheSameFile(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	victim, address := startVictim(t, path)
	_, err := dial(t, address.Address).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "kept", TaskQueue: "none"}, "Any")
	require.NoError(t, err)
	require.Equal(t, []Address{address}, Living(path))

	require.NoError(t, victim.Process.Kill())
	killed := time.Now()
	_ = victim.Wait()
	server := start(t, open(t, path))
	described, err := dial(t, server.Address).DescribeWorkflowExecution(t.Context(), "kept", "")
	require.NoError(t, err)
	require.Less(t, time.Since(killed), resumeMax)
	t.Logf("resumed %s after SIGKILL", time.Since(killed).Round(time.Millisecond))
	require.Equal(t, "kept", described.GetWorkflowExecutionInfo().GetExecution().GetWorkflowId())
	require.NotEqual(t, address.Server, server.process.pid)
	require.Empty(t, birth(address.Server), "the orphan has ended")
}

// TestSecondRunIsRefusedWithThePidOfTheFirst is I1.
func TestSecondRunIsRefusedWithThePidOfTheFirst(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	victim, _ := startVictim(t, path)
	_, err := Open(path, testID, "test")
	var held *HeldError
	require.ErrorAs(t, err, &held)
	require.Equal(t, victim.Process.Pid, held.Address.PID)
	require.ErrorContains(t, err, fmt.Sprintf("pid %d", victim.Process.Pid))
}

// TestOrphanThatOutlivesItsRunIsEnded is I2 where the kernel does not help: a server that holds the lock, whose run is
// dead, and that does not listen to SIGTERM.
func TestOrphanThatOutlivesItsRunIsEnded(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d, err := Open(path, testID, "test")
	require.NoError(t, err)
	orphan := exec.Command("sh", "-c", `trap "" TERM; echo deaf; while :; do sleep 1; done`, "sh", d.database())
	orphan.ExtraFiles = []*os.File{d.lock}
	out, err := orphan.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, orphan.Start())
	t.Cleanup(func() { _ = orphan.Process.Kill(); _ = orphan.Wait() })
	_, err = out.Read(make([]byte, 8))
	require.NoError(t, err)
	d.address.PID, d.address.Birth, d.address.Server = 1<<30, "long ago", orphan.Process.Pid
	require.NoError(t, d.writeAddress())
	require.NoError(t, d.lock.Close())

	begun := time.Now()
	open(t, path)
	require.Less(t, time.Since(begun), resumeMax)
	require.ErrorContains(t, orphan.Wait(), "killed")
}

// TestLockOfAStrangerIsNotBroken: only what is known to be our orphan is ended.
func TestLockOfAStrangerIsNotBroken(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d, err := Open(path, testID, "test")
	require.NoError(t, err)
	stranger := exec.Command("sleep", "60")
	stranger.ExtraFiles = []*os.File{d.lock}
	require.NoError(t, stranger.Start())
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	d.address.PID, d.address.Birth, d.address.Server = 1<<30, "long ago", stranger.Process.Pid
	require.NoError(t, d.writeAddress())
	require.NoError(t, d.lock.Close())

	_, err = Open(path, testID, "test")
	require.ErrorContains(t, err, "locked by a process that is not known")
	require.NoError(t, stranger.Process.Signal(syscall.Signal(0)), "the stranger lives")
}

func TestBusyPortIsAvoided(t *testing.T) {
	if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", preferredPort)); err == nil {
		defer func() { _ = listener.Close() }()
	}
	server := start(t, open(t, t.TempDir()))
	require.NotEqual(t, fmt.Sprintf("127.0.0.1:%d", preferredPort), server.Address)
	require.NotEmpty(t, server.UI)
	dial(t, server.Address)
}

// TestFinishedMigrationsStayVisibleForAMonth: the server's own default is a day.
func TestFinishedMigrationsStayVisibleForAMonth(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	server := start(t, d)
	namespace, err := dial(t, server.Address).WorkflowService().DescribeNamespace(t.Context(),
		&workflowservice.DescribeNamespaceRequest{Namespace: Namespace})
	require.NoError(t, err)
	require.Equal(t, retention, namespace.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
}

// TestCtrlCDoesNotReachTheServer is I3: the terminal signals a process group.
func TestCtrlCDoesNotReachTheServer(t *testing.T) {
	t.Parallel()
	server := start(t, open(t, t.TempDir()))
	group, err := syscall.Getpgid(server.process.pid)
	require.NoError(t, err)
	require.Equal(t, server.process.pid, group)
	require.NotEqual(t, syscall.Getpgrp(), group)
}

// TestServerThatEndsByItselfIsNoticed, and a stop after that does nothing.
func TestServerThatEndsByItselfIsNoticed(t *testing.T) {
	t.Parallel()
	server := start(t, open(t, t.TempDir()))
	require.NoError(t, syscall.Kill(server.process.pid, syscall.SIGKILL))
	select {
	case <-server.Ended():
	case <-time.After(resumeMax):
		t.Fatal("not noticed")
	}
	server.Stop()
}

// TestFileOfAnotherVersionIsNotOpened is I4.
func TestFileOfAnotherVersionIsNotOpened(t *testing.T) {
	d := open(t, t.TempDir())
	require.NoError(t, os.WriteFile(d.database(), nil, 0o600))
	require.NoError(t, os.WriteFile(d.Path("temporal.version"), []byte("temporal version 0.1\n"), 0o600))
	_, err := d.Start(t.Context())
	require.ErrorContains(t, err, `was made by "temporal version 0.1" and cannot be opened by`)
	require.ErrorContains(t, err, "give another --state-dir")
}

func TestMissingServerIsSaidWithTheRemedy(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := open(t, t.TempDir()).Start(t.Context())
	require.ErrorContains(t, err, "make temporal")
	require.ErrorContains(t, err, "TEMPORAL_ADDRESS")
}

// TestForgottenHistoryIsGone: after a release, the next run must not resume what speaks of a slot that is gone.
func TestForgottenHistoryIsGone(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d := open(t, path)
	server := start(t, d)
	_, err := dial(t, server.Address).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "gone", TaskQueue: "none"}, "Any")
	require.NoError(t, err)
	server.Stop()
	require.NoError(t, d.Forget())
	require.NoError(t, d.Forget(), "twice")

	server = start(t, d)
	_, err = dial(t, server.Address).DescribeWorkflowExecution(t.Context(), "gone", "")
	var missing *serviceerror.NotFound
	require.ErrorAs(t, err, &missing)
}

// TestAddressOfADeadRunIsNotFollowed, even when another process has its pid.
func TestAddressOfADeadRunIsNotFollowed(t *testing.T) {
	root := t.TempDir()
	for name, address := range map[string]Address{
		"dead":   {PID: 1 << 30, Birth: "1", Address: "127.0.0.1:1", ID: testID},
		"reused": {PID: os.Getpid(), Birth: "long ago", Address: "127.0.0.1:1", ID: testID},
		"early":  {PID: os.Getpid(), Birth: birth(os.Getpid()), ID: testID},
	} {
		content, err := json.Marshal(address)
		require.NoError(t, err)
		require.NoError(t, os.Mkdir(filepath.Join(root, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(root, name, addressFile), content, 0o600))
	}
	require.Empty(t, Living(root))
	require.Empty(t, Living(filepath.Join(root, "none")))
}

func TestBirthTellsProcessesApart(t *testing.T) {
	require.NotEmpty(t, birth(os.Getpid()))
	require.Equal(t, birth(os.Getpid()), birth(os.Getpid()))
	require.Empty(t, birth(1<<30))
	if runtime.GOOS == "linux" {
		zombie := exec.Command("true")
		require.NoError(t, zombie.Start())
		require.Eventually(t, func() bool { return birth(zombie.Process.Pid) == "" }, resumeMax, time.Millisecond)
		require.NoError(t, errors.Join(zombie.Wait()))
	}
}
