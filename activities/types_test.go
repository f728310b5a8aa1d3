package activities

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

func newTrialOf(t *testing.T, types ...migration.Type) *trial {
	t.Helper()
	r := newTrial(t)
	r.spec.Types, r.spec.WithoutKey = types, migration.InsertOnly
	return r
}

// Without incremental nothing is made on the source, and another host is kept off although no slot is watched.
func TestPrepareWithoutIncrementalTouchesNoSource(t *testing.T) {
	t.Parallel()
	r := newTrialOf(t, migration.TypeSchema, migration.TypeFull)
	out, err := prepare(t.Context(), r.as(t, "run-1", unseen))
	require.NoError(t, err)
	require.Empty(t, out.Slot)
	require.Positive(t, out.Tables)
	require.Empty(t, r.from.Query(t, "select slot_name from pg_replication_slots where database = current_database()"))
	require.Empty(t, r.from.Query(t, "select pubname from pg_publication"))
	require.Equal(t, "t", r.to.Query(t, "select slot is null and start_lsn is null from dts_sync.migration")[0][0])

	r.to.Exec(t, "update dts_sync.migration set lease_until = now()")
	watching, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := watch(watching, r.as(t, "run-1", unseen))
		ended <- err
	}()
	r.to.WaitUntil(t, "select lease_until > now() + interval '1 minute' from dts_sync.migration")
	_, err = prepare(t.Context(), r.as(t, "run-2", unseen))
	fault, ok := migration.AsFault(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, migration.FaultFenced, fault.Kind)
	end()
	require.NoError(t, <-ended)
}

// The lease that somebody else has taken ends the watch.
func TestLeaseThatWasTakenIsNoticed(t *testing.T) {
	t.Parallel()
	r := newTrialOf(t, migration.TypeSchema)
	_, err := prepare(t.Context(), r.as(t, "run-1", unseen))
	require.NoError(t, err)
	r.to.Exec(t, "update dts_sync.migration set run = 'run-2'")
	_, err = watch(t.Context(), r.as(t, "run-1", unseen))
	fault, ok := migration.AsFault(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, migration.FaultFenced, fault.Kind)
}

// A fault about objects tells which, and reports tell how all of them stand while they are made.
func TestFaultTellsItsObjects(t *testing.T) {
	t.Parallel()
	r := newTrialOf(t, migration.TypeSchema)
	// The target refuses one view, as an administrator's event trigger would.
	r.to.Exec(t, `create function theirs.refuse() returns event_trigger language plpgsql as $$begin
			if exists (select from pg_event_trigger_ddl_commands() where object_identity = 'public.grouped') then raise 'not here'; end if;
		end$$;
		create event trigger refuse on ddl_command_end execute function theirs.refuse();
		alter event trigger refuse enable always`)
	defer r.to.Exec(t, "drop event trigger refuse")
	var last migration.Beat
	see := func(beat migration.Beat) { last = beat }
	_, err := prepare(t.Context(), r.as(t, "run-1", see))
	require.NoError(t, err)
	_, err = createBefore(t.Context(), r.as(t, "run-1", see), schema.Options{})
	fault, ok := migration.AsFault(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, migration.FaultObject, fault.Kind)
	require.Equal(t, 1, fault.Objects.Failed)
	require.Equal(t, "VIEW public.grouped", fault.Objects.Failures[0].Title())
	require.Equal(t, "P0001", fault.Objects.Failures[0].SQLState)
	require.Positive(t, fault.Objects.Pending)
	require.NotNil(t, last.Objects)
	require.InDelta(t, fault.Objects.Done, last.Objects.Done, 2)

	without := schema.Options{Skip: []string{"VIEW public.grouped"}}
	_, err = createBefore(t.Context(), r.as(t, "run-1", see), without)
	require.NoError(t, err)
	out, err := createConstraints(t.Context(), r.as(t, "run-1", see), without)
	require.NoError(t, err)
	var left []string
	for _, o := range out.Objects.Failures {
		left = append(left, o.Title())
	}
	require.Equal(t, []string{"VIEW public.grouped", "VIEW public.over_grouped", "RULE public.grouped _RETURN"}, left)
	settled, err := settle(t.Context(), r.as(t, "run-1", see), nil)
	require.NoError(t, err)
	require.Zero(t, settled.Objects.Pending)
	require.Zero(t, settled.Sequences)
	require.Equal(t, "0", r.to.Query(t, "select count(*)::text from guarded")[0][0])
}

// The copy ends under the snapshot that is held beside it, and its holder with it.
func TestHolderEndsWithTheCopy(t *testing.T) {
	t.Parallel()
	r := newTrialOf(t, migration.TypeSchema, migration.TypeFull)
	for _, s := range steps[:2] {
		require.NoError(t, s.work(t.Context(), r.as(t, "run-1", unseen)), s.name)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := hold(t.Context(), r.as(t, "run-1", unseen))
		ended <- err
	}()
	_, err := plan(t.Context(), r.as(t, "run-1", unseen))
	require.NoError(t, err)
	_, err = copyLane(t.Context(), r.as(t, "run-1", unseen), step.CopyIn{Lane: 1})
	require.NoError(t, err)
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		t.Fatal("the holder did not end with the copy")
	}
	out, err := createConstraints(t.Context(), r.as(t, "run-1", unseen), schema.Options{})
	require.NoError(t, err)
	require.Zero(t, out.Objects.Failed)
	settled, err := settle(t.Context(), r.as(t, "run-1", unseen), nil)
	require.NoError(t, err)
	require.Positive(t, settled.Sequences)
	pgtest.MustEqual(t, r.from, r.to, "theirs.t")
}
