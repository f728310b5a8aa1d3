package pgserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// freeze is a stopped tree of processes.
type freeze struct {
	pids     []int
	guard    *exec.Cmd
	deadline io.Closer
}

// freezeTree stops the postmaster and then its children. The guard is a shell that continues them
// when its input ends, because a stopped process hears no signal of our death.
func freezeTree(postmaster *process) (*freeze, error) {
	if err := postmaster.signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	f := &freeze{pids: []int{postmaster.pid}}
	backends, err := children(postmaster.pid)
	if err != nil {
		return f, err
	}
	f.pids = append(f.pids, backends...)
	for _, pid := range backends {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
			return f, fmt.Errorf("stop process %d: %w", pid, err)
		}
	}
	arguments := []string{"-c", `read -r _; kill -s CONT "$@"`, "sh"}
	for _, pid := range f.pids {
		arguments = append(arguments, strconv.Itoa(pid))
	}
	f.guard = exec.Command("sh", arguments...)
	if f.deadline, err = f.guard.StdinPipe(); err != nil {
		return f, fmt.Errorf("guard frozen server: %w", err)
	}
	return f, f.guard.Start()
}

// thaw continues the processes itself and then lets the guard do it once more, so that when it
// returns both the server runs and the guard has ended.
func (f *freeze) thaw() error {
	var all error
	for _, pid := range slices.Backward(f.pids) {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			all = errors.Join(all, fmt.Errorf("continue process %d: %w", pid, err))
		}
	}
	if f.guard == nil || f.guard.Process == nil {
		return all
	}
	_ = f.deadline.Close()
	// The guard's status is that of kill, which fails for processes that have ended meanwhile.
	_ = f.guard.Wait()
	return all
}

// children lists the processes whose parent is pid. A server's processes are all children of the
// postmaster; what they start themselves, such as archive commands, is not listed.
func children(pid int) ([]int, error) {
	entries, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(entry)))
		if err != nil {
			continue
		}
		if stat, err := readStat(child); err == nil && stat.parent() == pid && !stat.zombie() {
			pids = append(pids, child)
		}
	}
	return pids, nil
}

// procStat is the part of /proc/<pid>/stat behind the name of the program (proc(5)): state, parent, …
type procStat []string

func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, syscall.ESRCH) {
		return nil, os.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	// The name is in parentheses and may contain them.
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])), nil
}

func (s procStat) zombie() bool { return len(s) > 0 && (s[0] == "Z" || s[0] == "X") }

func (s procStat) parent() int {
	if len(s) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(s[1]) // Zero is no process's parent that we look for.
	return parent
}
