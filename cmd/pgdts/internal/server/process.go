package server

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// process is a child that does not outlive us.
type process struct {
	pid    int
	exited chan struct{} // closed when it has ended
	err    error         // valid after exited
}

// spawn starts the command in a process group of its own. The signal that the kernel sends at the parent's death is
// bound to the thread that started the child, so that thread waits for it and does nothing else.
func spawn(command *exec.Cmd) (*process, error) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(command.SysProcAttr)
	p := &process{exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := command.Start()
		if err == nil {
			p.pid = command.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = command.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill ends the child and waits for it. One that has ended is left alone: its pid may be another's by now.
func (p *process) kill() {
	select {
	case <-p.exited:
		return
	default:
	}
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
	<-p.exited
}

// birth tells when a process began, in words that are compared only; "" when there is none.
func birth(pid int) string {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		// The name of the program, in parentheses, may hold spaces. A zombie has ended.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 20 || string(fields[0]) == "Z" {
			return ""
		}
		return string(fields[19])
	}
	return ps(pid, "lstart")
}

// runs reports whether the process was started with a certain argument.
func runs(pid int, argument string) bool {
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
		return bytes.Contains(line, []byte(argument))
	}
	return strings.Contains(ps(pid, "command"), argument)
}

// ps asks for a column of a process, where there is no /proc.
func ps(pid int, column string) string {
	out, err := exec.Command("ps", "-o", column+"=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
