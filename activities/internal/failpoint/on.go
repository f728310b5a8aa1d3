//go:build failpoint

package failpoint

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type action struct {
	do string
	at int
}

var (
	mu      sync.Mutex
	hits    = map[string]int{}
	actions = parse(os.Getenv("PGDTS_FAILPOINT"))
)

func parse(text string) map[string]action {
	parsed := map[string]action{}
	for _, part := range strings.Split(text, ",") {
		name, rest, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		do, count, _ := strings.Cut(rest, "@")
		at, err := strconv.Atoi(count)
		if err != nil {
			at = 1
		}
		parsed[name] = action{do: do, at: at}
	}
	return parsed
}

// Hit acts when the named instant has been reached as often as asked.
func Hit(name string) error {
	mu.Lock()
	hits[name]++
	act, ok := actions[name]
	fires := ok && hits[name] == act.at
	mu.Unlock()
	if !fires {
		return nil
	}
	record(name + "=" + act.do)
	switch act.do {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "error":
		return errors.New("failpoint " + name)
	case "wait":
		for gate := os.Getenv("PGDTS_FAILPOINT_GATE") + name; ; time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(gate); err == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("failpoint %s: unknown action %q", name, act.do)
}

func record(line string) {
	path := os.Getenv("PGDTS_FAILPOINT_LOG")
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintln(file, line)
	_ = file.Close()
}
