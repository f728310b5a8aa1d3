package pgserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a child that ends with us.
type process struct {
	pid    int
	exited chan struct{}
	err    error
}

// startProcess starts the command with its output appended to a log.
func startProcess(command *exec.Cmd, log string, credential *syscall.Credential) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = file.Close() }()
	command.Stdout, command.Stderr = file, file
	command.SysProcAttr = &syscall.SysProcAttr{
		Credential: credential,
		// A terminal's interrupt is for the tests, which then stop the server.
		Setpgid: true,
		// SIGQUIT makes the postmaster take its backends along; SIGKILL would leave those that are
		// busy running, with the shared memory.
		Pdeathsig: syscall.SIGQUIT,
	}
	p := &process{exited: make(chan struct{})}
	started := make(chan error)
	go p.run(command, started)
	return p, <-started
}

// run ends when the child has ended. The death signal belongs to the thread that started the
// child, not to the process: were the thread given back, the runtime could end it and with it the server.
func (p *process) run(command *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := command.Start(); err != nil {
		started <- err
		return
	}
	p.pid = command.Process.Pid
	started <- nil
	p.err = command.Wait()
	close(p.exited)
}

// result is valid once exited is closed.
func (p *process) result() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal does nothing to a process that has ended: its number may be another's by now.
func (p *process) signal(signal syscall.Signal) error {
	if !p.running() {
		return nil
	}
	if err := syscall.Kill(p.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s to process %d: %w", signal, p.pid, err)
	}
	return nil
}
