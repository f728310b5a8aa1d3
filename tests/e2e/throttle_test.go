package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// TestThrottledMigrationTakesItsTimeUntilItIsSetFree: 40 MB at 2 MB/s would take 20 s, and the order ends that; of the changes it
// shows that a throttle delays, is said by the cutover, confirms its slot, and can be taken away.
func TestThrottledMigrationTakesItsTimeUntilItIsSetFree(t *testing.T) {
	t.Parallel()
	s := newScenario(t, "throttle: {full: {megabytesPerSecond: 2}}\ncutover: {deadline: 5s, steadyFor: 1s}\n")
	s.from.Exec(t, `create table wide (id int primary key, filler text);
		insert into wide select i, repeat(md5(i::text), 31) from generate_series(1, 40000) i`)
	p := s.start(nil, "run", "-f", s.file)
	s.awaitPhase(p, migration.PhaseCopy)
	copied := func(least int64) func(migration.Status) bool {
		return func(status migration.Status) bool {
			return status.Bytes.Copied >= least || status.Phase.After(migration.PhaseCopy)
		}
	}
	s.await(p, "the first megabytes", copied(4e6))
	began := time.Now()
	status := s.await(p, "16 MB more", copied(20e6))
	require.Equal(t, migration.PhaseCopy, status.Phase)
	require.InDelta(t, 8, time.Since(began).Seconds(), 3.5)
	code, out, errs := s.run("throttle", "-f", s.file, "--full-mb", "0")
	require.Zero(t, code, errs)
	require.Contains(t, out, "no throttle")
	began = time.Now()
	s.awaitPhase(p, migration.PhaseIncremental)
	require.Less(t, time.Since(began), 9*time.Second, "10 s at the old rate, and indexes")
	status = s.await(p, "what was copied", func(migration.Status) bool { return true })
	require.Equal(t, migration.Amount{Copied: 40000, Total: 40000}, status.Rows)

	code, _, errs = s.run("throttle", "-f", s.file, "--full-mb", "3")
	require.NotZero(t, code)
	require.Contains(t, errs, "the copy is done")
	code, _, errs = s.run("throttle", "-f", s.file, "--incremental-rows", "100")
	require.Zero(t, code, errs)
	time.Sleep(2 * time.Second) // until every worker has seen it
	s.from.Exec(t, "do $$ begin for i in 1..3000 loop update wide set filler = '' where id = i; commit; end loop; end $$")
	s.await(p, "latency", func(status migration.Status) bool { return status.LatencySeconds > 5 })
	confirmed := func() string {
		return pgtest.Value[string](t, s.from, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name like 'dts\\_sync%'")
	}
	first := confirmed()
	s.from.WaitUntil(t, "select exists (select from pg_replication_slots where slot_name like 'dts\\_sync%' and confirmed_flush_lsn > '"+first+"')")
	_, _, errs = s.run("cutover", "-f", s.file)
	require.Empty(t, strings.TrimSpace(errs))
	s.await(p, "a cutover that says what holds it up", func(status migration.Status) bool {
		return status.Cutover != nil && status.Cutover.Step == "aborted" && strings.Contains(status.Cutover.Message, "latency")
	})
	code, _, errs = s.run("throttle", "-f", s.file, "--incremental-rows", "0")
	require.Zero(t, code, errs)
	s.await(p, "caught up", func(status migration.Status) bool { return status.CaughtUp })
	code, _, errs = s.run("cutover", "-f", s.file)
	require.Zero(t, code, errs)
	require.Zero(t, p.wait(time.Minute))
	pgtest.MustEqual(t, s.from, s.to)
}
