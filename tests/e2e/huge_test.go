package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/workflows/migration"
)

// memoryMax is what pgdts may take while one transaction of any length passes.
const memoryMax = 512 << 20

// hugeRows is more than fits into a fifth of memoryMax; PGDTS_HUGE_ROWS asks for another number.
func hugeRows(t *testing.T) int {
	t.Helper()
	text := os.Getenv("PGDTS_HUGE_ROWS")
	if text == "" {
		return 1_000_000
	}
	rows, err := strconv.Atoi(text)
	require.NoError(t, err)
	return rows
}

// peak is the most memory that a process has had at once.
func (p *process) peak() int64 {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	require.NoError(p.t, err)
	match := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(p.t, match)
	kilobytes, err := strconv.ParseInt(string(match[1]), 10, 64)
	require.NoError(p.t, err)
	return kilobytes << 10
}

// A transaction that does not fit into memory becomes one transaction of the target, which nobody sees half of.
func TestTransactionLargerThanMemory(t *testing.T) {
	s := newScenario(t, "cutover: {steadyFor: 1s, verify: counts}\n")
	s.from.Exec(t, "create table huge (id int primary key, a text, b text, at timestamptz); create table small (id int primary key); insert into small values (1)")
	p := s.start(nil, "run", "-f", s.file)
	s.await(p, "caught up", func(status migration.Status) bool {
		return status.Phase == migration.PhaseIncremental && status.CaughtUp
	})
	rows := hugeRows(t)
	s.from.Exec(t, fmt.Sprintf(`insert into small values (2);
		insert into huge select g, md5(g::text), repeat('b', g %% 100), now() from generate_series(1, %d) g;
		update huge set a = 'changed' where id %% 10 = 0; delete from huge where id %% 25 = 0`, rows))
	committed := time.Now()
	left := strconv.Itoa(rows - rows/25)
	require.Eventually(t, func() bool {
		seen := s.to.Query(t, "select count(*) from huge")[0][0]
		if seen != "0" && seen != left {
			t.Errorf("%s rows of a transaction were visible", seen)
		}
		return seen == left
	}, time.Minute+time.Duration(rows)*40*time.Microsecond, 200*time.Millisecond)
	changes := rows + rows/10 + rows/25
	t.Logf("%d changes in %s, %d MB at most", changes, time.Since(committed).Round(time.Second), p.peak()>>20)
	require.Less(t, p.peak(), int64(memoryMax))
	code, out, errs := s.run("cutover", "-f", s.file)
	require.Equal(t, 0, code, out+errs)
	require.Equal(t, 0, p.wait(timeLimit))
	const sum = "select count(*), sum(hashtext(h::text)::int8) from huge h"
	require.Equal(t, s.from.Query(t, sum), s.to.Query(t, sum))
	require.Zero(t, s.report().Conflicts)
}
