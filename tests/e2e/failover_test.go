package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/load"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// The source fails over to its standby while changes are followed. Nobody does anything about it: the stream goes on, the cutover
// moves the writes of the new primary, and the report says what happened.
func TestSourceFailsOverWhileChangesAreFollowed(t *testing.T) {
	source := pgtest.Server(t, pgtest.Major(17))
	standby := pgtest.Standby(t, source)
	require.NoError(t, source.Set(t.Context(), "synchronized_standby_slots", "standby"))
	s := newScenarioOn(t, source, pgtest.Server(t, pgtest.Major(17)), "")
	after := s.from.On(standby)
	s.from.URI = fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/%s?target_session_attrs=read-write",
		source.Port(), standby.Port(), s.from.Name)
	s.define("types: [full, incremental]\ncutover: {mode: manual, verify: hash, steadyFor: 1s}\n")
	schema := load.SchemaOf(17) + "create table since (id int primary key, v text)"
	s.from.Exec(t, schema)
	s.to.Exec(t, schema)
	empty(t, s.to)
	writers := load.Start(context.Background(), load.Config{
		URI: s.from.URI, Clients: 3, Operations: load.OperationsOf(17), Seed: 11, Prepared: true, Pause: 5 * time.Millisecond, Persist: true,
	})
	t.Cleanup(func() { writers.Stop() })
	p := s.start(nil, "run", "-f", s.file)
	s.await(p, "caught up", func(status migration.Status) bool {
		return status.Phase == migration.PhaseIncremental && status.CaughtUp
	})
	before := writers.Commits()
	require.Eventually(t, func() bool { return writers.Commits() > before+200 }, time.Minute, 10*time.Millisecond)
	outcome := writers.Stop() // what its clients were told would be on the standby only with synchronous commits
	require.NoError(t, standby.Set(t.Context(), "sync_replication_slots", "on"))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "the standby did not take the slot along")
		s.from.Exec(t, "insert into since select coalesce(max(id), 0) + 1, 'before' from since; select pg_log_standby_snapshot()")
		if pgtest.Value[bool](t, after, "select coalesce(bool_or(synced and not temporary), false) from pg_replication_slots") {
			break
		}
	}
	after.WaitUntil(t, "select pg_last_wal_replay_lsn() >= '"+pgtest.Value[string](t, s.from, "select pg_current_wal_lsn()::text")+"'")

	require.NoError(t, source.Kill())
	s.await(p, "an outage", func(status migration.Status) bool { return status.Outage != nil })
	after.Exec(t, "select pg_promote()")
	s.from.Exec(t, "update since set v = 'after'; insert into since select max(id) + 1, 'after' from since")
	status := s.await(p, "caught up on the new primary", func(status migration.Status) bool {
		return status.CaughtUp && status.Outage == nil && len(status.Notes) > 0
	})
	require.Contains(t, status.Notes[0], "the source failed over at")
	code, _, errs := s.run("cutover", "-f", s.file)
	require.Equal(t, 0, code, errs)
	require.Equal(t, 0, p.wait(2*time.Minute))
	s.mustBeEqual(outcome)
	s.mustLeaveNothing()
	report := s.report()
	require.Equal(t, migration.PhaseFinished, report.State)
	require.Zero(t, report.Conflicts)
	require.Equal(t, 1, strings.Count(fmt.Sprint(report.Notes), "from timeline 1 to 2"))
}
