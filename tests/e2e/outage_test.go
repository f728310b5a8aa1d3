package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
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

// The same at instants inside the short phases, where the process is held while both servers go away and come back.
func TestServersRestartInsideTheShortPhases(t *testing.T) {
	s := newScenario(t, "cutover: {mode: auto, steadyFor: 1s}\n")
	s.ballast()
	writers := s.writers(10)
	log, gate := filepath.Join(s.dir, "failpoints"), filepath.Join(s.dir, "gate-")
	moments := []string{"prepare-recorded", "schema-object", "constraint-object", "cutover-verified"}
	p := s.start([]string{
		"PGDTS_FAILPOINT=" + strings.Join(moments, "=wait@1,") + "=wait@1",
		"PGDTS_FAILPOINT_LOG=" + log, "PGDTS_FAILPOINT_GATE=" + gate,
	}, "run", "-f", s.file)
	for i, moment := range moments {
		require.Eventually(t, func() bool {
			fired, _ := os.ReadFile(log)
			return strings.Contains(string(fired), moment)
		}, 2*time.Minute, 10*time.Millisecond, moment)
		require.NoError(t, s.source.Restart(context.Background(), pgserver.StopMode(i%2)))
		require.NoError(t, s.target.Restart(context.Background(), pgserver.StopMode((i+1)%2)))
		require.NoError(t, os.WriteFile(gate+moment, nil, 0o600))
	}
	require.Equal(t, 0, p.wait(timeLimit))
	s.mustBeEqual(writers.Stop())
	s.mustLeaveNothing()
	require.Zero(t, s.report().Conflicts)
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
