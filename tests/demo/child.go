package main

import (
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// child is a process that dies with the demo, however the demo dies.
type child struct {
	pid    int
	exited chan struct{}
	err    error // valid after exited
}

// startChild starts the command. The signal that the kernel sends at the parent's death is bound to the thread that
// started the child, so that thread waits for it and does nothing else. (PostgreSQL's and Temporal's processes look
// after themselves in the same way.)
func startChild(command *exec.Cmd) (*child, error) {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	c := &child{exited: make(chan struct{})}
	started := make(chan error)
	go c.run(command, started)
	return c, <-started
}

func (c *child) run(command *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := command.Start(); err != nil {
		started <- err
		return
	}
	c.pid = command.Process.Pid
	started <- nil
	c.err = command.Wait()
	close(c.exited)
}

func (c *child) running() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// signal leaves a process alone that has ended: its number may be another's by now.
func (c *child) signal(signal syscall.Signal) {
	if c.running() {
		_ = syscall.Kill(c.pid, signal) // it may have ended this instant
	}
}

// kill ends the child as kill -9 does, and returns when it is gone.
func (c *child) kill() {
	c.signal(syscall.SIGKILL)
	<-c.exited
}

// end asks, and insists when patience is over.
func (c *child) end(signal syscall.Signal, patience time.Duration) {
	c.signal(signal)
	select {
	case <-c.exited:
	case <-time.After(patience):
		c.kill()
	}
}

// apart keeps a terminal's Ctrl-C from a child that the demo ends itself.
func apart(command *exec.Cmd) *exec.Cmd {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return command
}
