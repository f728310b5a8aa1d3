package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Both servers are restarted, fast and immediately, in each phase; the migration goes on by itself and ends equal.
func TestServersRestartInEachPhase(t *testing.T) {
	s := newScenario(t, "cutover: {mode: manual}\n")
	s.ballast()
	writers := s.writers(5)
	restart := func(server *pgserver.Server, mode pgserver.StopMode) {
		require.NoError(t, server.Restart(context.Background(), mode))
	}
	p := s.start(nil, "run", "-f", s.file)
	s.awaitPhase(p, migration.PhaseCopy)
	restart(s.source, pgserver.Fast)
	restart(s.target, pgserver.Immediate)
	s.await(p, "after the copy", func(status migration.Status) bool { return !status.Phase.Before(migration.PhaseCatchup) })
	restart(s.target, pgserver.Fast)
	s.await(p, "incremental", func(status migration.Status) bool { return status.Phase == migration.PhaseIncremental })
	restart(s.source, pgserver.Immediate)
	s.await(p, "caught up", func(status migration.Status) bool { return status.CaughtUp && status.Outage == nil })
	restart(s.target, pgserver.Immediate)
	s.await(p, "caught up again", func(status migration.Status) bool { return status.CaughtUp && status.Outage == nil })
	code, _, errs := s.run("cutover", "-f", s.file)
	require.Equal(t, 0, code, errs)
	require.Equal(t, 0, p.wait(2*time.Minute))
	s.mustBeEqual(writers.Stop())
	s.mustLeaveNothing()
	s.record(t, "servers-restarted")
}

// An outage is shown while it lasts, with what is left of its window.
func TestOutageIsShownWithItsWindow(t *testing.T) {
	s := newScenario(t, "")
	s.writers(6)
	p := s.start(nil, "run", "-f", s.file)
	s.awaitPhase(p, migration.PhaseIncremental)
	require.NoError(t, s.target.Stop(pgserver.Fast))
	status := s.await(p, "an outage", func(status migration.Status) bool { return status.Outage != nil })
	require.Equal(t, migration.FaultConnection, status.Outage.Kind)
	require.Greater(t, status.Outage.WindowLeftSeconds, (700 * time.Minute).Seconds())
	require.NoError(t, s.target.Restart(context.Background(), pgserver.Fast))
	s.await(p, "recovery", func(status migration.Status) bool { return status.Outage == nil && status.CaughtUp })
}
