package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const timeLimit = 3 * time.Minute

// stop in incremental drains to now, sets sequences and drops the slot; the clients write on.
func TestStopInIncrementalDrains(t *testing.T) {
	s := newScenario(t, "")
	writers := s.writers(7)
	p := s.start(nil, "run", "-f", s.file)
	s.await(p, "caught up", func(status migration.Status) bool {
		return status.Phase == migration.PhaseIncremental && status.CaughtUp
	})
	outcome := writers.Stop()
	code, _, errs := s.run("stop", "-f", s.file)
	require.Equal(t, 0, code, errs)
	require.Equal(t, 0, p.wait(timeLimit))
	s.mustBeEqual(outcome)
	s.mustLeaveNothing()
	require.Equal(t, migration.PhaseStopped, s.report().State)
	s.from.Exec(t, "insert into load.nokey values ('still writable', 1)")
	s.record(t, "stop-in-incremental")
}

// stop during the copy abandons: nothing of ours stays on the source, and the exit code says that it is not complete.
func TestStopInCopyAbandons(t *testing.T) {
	s := newScenario(t, "")
	s.ballast()
	log := filepath.Join(s.dir, "failpoints")
	gate := filepath.Join(s.dir, "gate-")
	p := s.start([]string{"PGDTS_FAILPOINT=copy-before-commit=wait@3", "PGDTS_FAILPOINT_LOG=" + log, "PGDTS_FAILPOINT_GATE=" + gate}, "run", "-f", s.file)
	s.awaitPhase(p, migration.PhaseCopy)
	code, _, errs := s.run("stop", "-f", s.file)
	require.Equal(t, 0, code, errs)
	require.NoError(t, os.WriteFile(gate+"copy-before-commit", nil, 0o600))
	require.Equal(t, 1, p.wait(timeLimit))
	s.mustLeaveNothing()
	require.Equal(t, migration.PhaseStopped, s.report().State)
	s.record(t, "stop-in-copy")
}

// release removes every trace of a migration from both servers.
func TestReleaseRemovesEveryTrace(t *testing.T) {
	s := newScenario(t, "")
	s.writers(8)
	p := s.start(nil, "run", "-f", s.file)
	s.awaitPhase(p, migration.PhaseIncremental)
	code, _, errs := s.run("release", "-f", s.file)
	require.Equal(t, 0, code, errs)
	p.wait(timeLimit)
	s.mustLeaveNothing()
	for _, db := range []*pgtest.DB{s.from, s.to} {
		require.Empty(t, db.Query(t, "select nspname::text from pg_namespace where nspname = 'dts_sync'"))
	}
}

// A hundred tables, and nine hundred empty ones: the history stays small, and the process too.
func TestHundredTablesStayInBounds(t *testing.T) {
	s := newScenario(t, "cutover: {mode: auto, steadyFor: 1s}\n")
	s.from.Exec(t, "create schema many")
	for i := range 100 {
		s.from.Exec(t, fmt.Sprintf(`create table many.t%03d (id int primary key, v text);
			insert into many.t%03d select i, md5(i::text) from generate_series(1, 500) i;
			create index on many.t%03d (v)`, i, i, i))
	}
	for from := 0; from < 900; from += 100 {
		s.from.Exec(t, fmt.Sprintf(`do $$ begin for i in %d..%d loop
			execute format('create table many.none%%s (id int primary key, v text unique); create index on many.none%%1$s (v)', i); end loop; end $$`, from, from+99))
	}
	var peak atomic.Int64
	p := s.start(nil, "run", "-f", s.file)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p.alive() {
			peak.Store(max(peak.Load(), peakMemory(p.Process.Pid)))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	require.Equal(t, 0, p.wait(timeLimit))
	<-done
	pgtest.MustEqual(t, s.from, s.to)
	events := s.historyLength(t)
	t.Logf("%d history events, peak memory %d MB", events, peak.Load()>>20)
	require.Less(t, events, 500)
	require.Less(t, peak.Load(), int64(256<<20))
}

// peakMemory is the high-water mark of a process's resident memory, in bytes.
func peakMemory(pid int) int64 {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(content)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, _ := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}

// historyLength counts the events of the finished migration.
func (s *scenario) historyLength(t *testing.T) int {
	t.Helper()
	var history struct {
		Events []json.RawMessage `json:"events"`
	}
	require.NoError(t, json.Unmarshal(s.history(t), &history))
	return len(history.Events)
}

func temporalPath(t *testing.T) string {
	path, err := filepath.Abs("../../bin/temporal")
	require.NoError(t, err)
	return path
}
