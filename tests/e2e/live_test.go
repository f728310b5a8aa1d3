package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtestMain(m) }

// The main job: a database is migrated while clients write to it, and the writes move by one command.
func TestLiveMigrationUnderWriters(t *testing.T) {
	s := newScenario(t, "")
	writers := s.writers(1)
	p := s.start(nil, "run", "-f", s.file)
	s.await(p, "caught up in incremental", func(status migration.Status) bool {
		return status.Phase == migration.PhaseIncremental && status.CaughtUp
	})
	before := writers.Commits()
	require.Eventually(t, func() bool { return writers.Commits() > before+200 }, time.Minute, 10*time.Millisecond)
	code, _, errs := s.run("cutover", "-f", s.file)
	require.Equal(t, 0, code, errs)
	require.Equal(t, 0, p.wait(2*time.Minute))

	outcome := writers.Stop()
	require.Empty(t, outcome.Errors)
	require.False(t, outcome.FirstRefused.IsZero(), "clients must have run into the fence")
	s.mustBeEqual(outcome)
	s.mustLeaveNothing()

	report := s.report()
	require.Equal(t, migration.PhaseFinished, report.State)
	require.Zero(t, report.Conflicts)
	require.Less(t, report.WriteBlocked.D(), 30*time.Second)
	t.Logf("write pause %s, %d changes, %d commits of clients, longest wait of a client %s",
		report.WriteBlocked, report.Changes, outcome.Commits(), outcome.LongestWait)

	require.NotEmpty(t, s.from.Query(t, "select tgname from pg_trigger where tgname like '%moved%' or tgname like '%fence%' or tgname like '%pgdts%' limit 1"),
		"the source refuses writes after the cutover")

	// The same command again prints the report and touches nothing.
	code, _, errs = s.run("run", "-f", s.file)
	require.Equal(t, 0, code, errs)
	s.mustBeEqual(outcome)
	s.record(t, "cutover-under-writers")
}
