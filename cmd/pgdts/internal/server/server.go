package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	preferredPort = 7233
	uiOffset      = 1000
	startPatience = 20 * time.Second
	startTries    = 3
	// retention is how long finished migrations stay visible; the server's own default is a day.
	retention = 30 * 24 * time.Hour
	// logMax bounds the child's log: a larger one is begun anew at the next start.
	logMax = 16 << 20
)

// Namespace is where the embedded service keeps migrations.
const Namespace = "default"

// Server is the child.
type Server struct {
	process *process
	// Address takes gRPC, UI is the address of the web pages.
	Address, UI string
}

// Start runs the Temporal service on the directory's file, at port 7233 when it is free, and waits until it answers.
// The file keeps what earlier runs left.
func (d *Directory) Start(ctx context.Context) (*Server, error) {
	binary, err := findBinary()
	if err != nil {
		return nil, err
	}
	if err := d.pinVersion(ctx, binary); err != nil {
		return nil, err
	}
	release, err := lockPorts()
	if err != nil {
		return nil, err
	}
	defer release()
	for try := 1; ; try++ {
		server, err := d.launch(ctx, binary, try == 1)
		if err == nil {
			return server, d.Publish(server.Address, Namespace)
		}
		if try == startTries || ctx.Err() != nil {
			return nil, fmt.Errorf("start Temporal: %w: see %s", err, d.Path("temporal.log"))
		}
	}
}

// findBinary prefers the pinned server that is built beside us.
func findBinary() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "temporal")
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	found, err := exec.LookPath("temporal")
	if err != nil {
		return "", errors.New("no Temporal service is configured, and the program `temporal` to start one is missing: " +
			"build it with `make temporal`, put it on PATH, or set TEMPORAL_ADDRESS")
	}
	return found, nil
}

// pinVersion refuses to open the file of another version of the service, whose schema would not be migrated.
func (d *Directory) pinVersion(ctx context.Context, binary string) error {
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s --version: %w", binary, err)
	}
	version := strings.TrimSpace(string(out))
	path := d.Path("temporal.version")
	pinned, err := os.ReadFile(path)
	_, noDatabase := os.Stat(d.database())
	if errors.Is(err, os.ErrNotExist) || noDatabase != nil {
		return WriteFile(path, []byte(version+"\n"))
	}
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if was := strings.TrimSpace(string(pinned)); was != version {
		return fmt.Errorf("%s was made by %q and cannot be opened by %q: put the former on PATH, or give another --state-dir",
			d.database(), was, version)
	}
	return nil
}

// launch starts the child once, on the preferred ports or on any.
func (d *Directory) launch(ctx context.Context, binary string, preferred bool) (*Server, error) {
	port, ui, err := freePorts(preferred)
	if err != nil {
		return nil, err
	}
	output, err := openLog(d.Path("temporal.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	command := exec.Command(binary, "server", "start-dev", "--db-filename", d.database(), "--ip", "127.0.0.1",
		"--port", strconv.Itoa(port), "--ui-port", strconv.Itoa(ui), "--namespace", Namespace)
	command.Env = environment()
	command.Stdout, command.Stderr = output, output
	command.ExtraFiles = []*os.File{d.lock}
	child, err := spawn(command)
	if err != nil {
		return nil, err
	}
	d.address.Server, d.address.UI = child.pid, fmt.Sprintf("http://127.0.0.1:%d", ui)
	server := &Server{process: child, Address: fmt.Sprintf("127.0.0.1:%d", port), UI: d.address.UI}
	if err := errors.Join(d.writeAddress(), server.awaitReady(ctx)); err != nil {
		child.kill()
		return nil, err
	}
	return server, nil
}

// environment is ours without the variables that would point the server elsewhere.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "TEMPORAL_") })
}

func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > logMax {
		if err := os.Truncate(path, 0); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// awaitReady waits until the service answers, and makes it keep finished migrations for long.
func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := s.prepare(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.process.exited:
			return fmt.Errorf("it ended: %w", s.process.err)
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *Server) prepare(ctx context.Context) error {
	connected, err := client.DialContext(ctx, client.Options{HostPort: s.Address, Namespace: Namespace, Logger: silent{}})
	if err != nil {
		return err
	}
	defer connected.Close()
	_, err = connected.WorkflowService().UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
		Namespace: Namespace,
		Config:    &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(retention)},
	})
	return err
}

// Ended is closed when the service has ended, by Stop or by itself.
func (s *Server) Ended() <-chan struct{} { return s.process.exited }

// Stop ends the service at once and waits for it: what it has acknowledged is in its file, and leaving in order would take it
// more than a second. A second call does nothing.
func (s *Server) Stop() { s.process.kill() }

// lockPorts keeps two runs of one user from choosing the same port: the loser would talk to the winner's service.
func lockPorts() (release func(), err error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("pgdts-%d.ports", os.Getuid()))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("choose port: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("choose port: %w", err), file.Close())
	}
	return func() { _ = file.Close() }, nil // nothing was written
}

// freePorts finds a port for the service and one for its pages.
func freePorts(preferred bool) (port, ui int, err error) {
	if preferred && free(preferredPort) {
		port = preferredPort
	} else if port, err = anyPort(); err != nil {
		return 0, 0, err
	}
	if ui = port + uiOffset; ui <= 65535 && free(ui) {
		return port, ui, nil
	}
	ui, err = anyPort()
	return port, ui, err
}

func free(port int) bool {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

func anyPort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("choose port: %w", err)
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

// silent drops what the client logs while the service comes up.
type silent struct{}

var _ log.Logger = silent{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}
