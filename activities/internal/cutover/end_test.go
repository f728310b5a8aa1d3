package cutover_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestUnfenceGivesWritesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	removed, err := cutover.Unfence(t.Context(), b.Source)
	require.NoError(t, err)
	require.Empty(t, removed)
	b.mustRun(t)
	// A session that has the function in its cache, and a reader in whose presence no trigger can be dropped.
	writer, reader := b.From.Conn(t), b.From.Conn(t)
	_, err = writer.Exec(t.Context(), "insert into customer values (500, 'x')")
	require.Equal(t, "25006", pg.SQLState(err))
	_, err = reader.Exec(t.Context(), "begin; select count(*) from customer")
	require.NoError(t, err)
	removed, err = cutover.Unfence(t.Context(), b.Source)
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(removed), "what the triggers on public.customer do")
	_, err = writer.Exec(t.Context(), "insert into customer values (500, 'x'); insert into part_1 values (500, '2020-02-02'); truncate log")
	require.NoError(t, err)
	_, err = reader.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	removed, err = cutover.Unfence(t.Context(), b.Source)
	require.NoError(t, err)
	require.Len(t, removed, 2)
	require.Zero(t, pgtest.Value[int](t, b.From, `select (select count(*) from pg_trigger where not tgisinternal)
		+ (select count(*) from pg_namespace where nspname = 'pgdts_fence')`))
	removed, err = cutover.Unfence(t.Context(), b.Source)
	require.NoError(t, err)
	require.Empty(t, removed)
}

// traces counts what a migration leaves on a database, but for the fence.
const traces = `
select (select count(*) from pg_namespace where nspname = 'dts_sync')
     + (select count(*) from pg_publication)
     + (select count(*) from pg_replication_slots where database = current_database())
     + (select count(*) from pg_stat_activity where datname = current_database() and application_name like 'pgdts/%')`

func TestReleaseRemovesEveryTrace(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.mustRun(t)
	zombie := b.Enter(t, "stream")
	conn, err := b.Target.Connect(t.Context(), zombie.Session())
	require.NoError(t, err)
	defer pg.Close(conn)
	owed, err := cutover.Release(t.Context(), b.config(t))
	require.NoError(t, err)
	require.Empty(t, owed)
	b.From.WaitUntil(t, "select 0 = ("+traces+")")
	b.To.WaitUntil(t, "select 0 = ("+traces+")")
	_, err = b.From.Conn(t).Exec(t.Context(), "delete from customer")
	require.Equal(t, "25006", pg.SQLState(err), "the fence outlives everything but unfence")
	owed, err = cutover.Release(t.Context(), b.config(t))
	require.NoError(t, err)
	require.Empty(t, owed)
	pgtest.MustEqual(t, b.From, b.To)
}

func TestCleanupMarksTheEndAndNamesIncompleteTables(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.To.Exec(t, "update dts_sync.tbl set stage = 'planned' where name in ('customer', 'part')")
	ending := cutover.Ending{End: migration.PhaseStopped}
	for range 2 {
		owed, err := cutover.Cleanup(t.Context(), b.config(t), ending)
		require.NoError(t, err)
		require.Empty(t, owed)
	}
	report, err := b.Ledger(t).Report(t.Context())
	require.NoError(t, err)
	require.Equal(t, migration.PhaseStopped, report.State)
	require.Equal(t, []string{"1 tables of the target are incomplete and were left as they are: public.customer"}, report.Notes)
	b.From.WaitUntil(t, "select 0 = ("+traces+")") // the last session takes a moment to end
	require.Equal(t, 100, pgtest.Value[int](t, b.To, "select count(*) from customer"))
}

// A migration that is given up between the closing of the source and the opening of the target must not leave the source
// closed.
func TestCleanupLiftsAFenceWhoseTargetWasNeverOpened(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	die := b.failpoints(t)
	out, err := die("cutover-blocked=kill")
	require.ErrorContains(t, err, "killed", out)
	owed, err := cutover.Cleanup(t.Context(), b.config(t), cutover.Ending{End: migration.PhaseFailed})
	require.NoError(t, err)
	require.Empty(t, owed)
	b.From.Exec(t, "update customer set name = 'free'")
}

func TestKeptSlotIsOwed(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	owed, err := cutover.Cleanup(t.Context(), b.config(t), cutover.Ending{End: migration.PhaseFailed, KeepSlot: true})
	require.NoError(t, err)
	require.Len(t, owed, 1)
	require.Equal(t, 1, pgtest.Value[int](t, b.From, "select count(*) from pg_replication_slots where slot_name = $1", b.Spec.ID.Slot()))
	_, err = cutover.Release(t.Context(), b.config(t))
	require.NoError(t, err)
}

func TestSourceThatIsDownIsOwedNotForgotten(t *testing.T) {
	t.Parallel()
	source := pgtest.Server(t)
	b := acrossServers(t, source, pgtest.Shared(t), shop)
	require.NoError(t, source.Stop(pgserver.Immediate))
	ending := cutover.Ending{End: migration.PhaseFailed, RemoveLedger: true}
	owed, err := cutover.Cleanup(t.Context(), b.config(t), ending)
	_ = slottest.MustFault(t, migration.FaultConnection, err)
	require.Contains(t, owed, fmt.Sprintf("select pg_drop_replication_slot('%s')", b.Spec.ID.Slot()))
	require.Equal(t, "failed", pgtest.Value[string](t, b.To, "select ended from dts_sync.migration"), "the ledger stays while something is owed")

	inspection, err := cutover.Inspect(t.Context(), b.Source, b.Target, b.Spec.ID)
	require.NoError(t, err)
	require.Len(t, inspection.Errors, 1)
	require.Equal(t, "failed", inspection.Ledger.Ended)

	require.NoError(t, source.Restart(t.Context(), pgserver.Immediate))
	owed, err = cutover.Cleanup(t.Context(), b.config(t), ending)
	require.NoError(t, err)
	require.Empty(t, owed)
	// The session that has cleaned up takes a moment to go.
	b.From.WaitUntil(t, "select 0 = ("+traces+")")
	b.To.WaitUntil(t, "select 0 = ("+traces+")")
}

func TestSettleLeavesAWorkingTarget(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), guarded)
	b.From.Exec(t, "select nextval('ticket')")
	b.catchUp(t)
	for range 2 {
		evidence, err := cutover.Settle(t.Context(), b.config(t))
		require.NoError(t, err)
		require.Equal(t, 2, evidence.Sequences)
	}
	require.Equal(t, 2, pgtest.Value[int](t, b.To,
		"select (select count(*) from pg_trigger where tgname = 'stamp') + (select count(*) from pg_rules where rulename = 'audited')"))
	require.EqualValues(t, 4, pgtest.Value[int64](t, b.To, "select nextval('ticket')"))
	require.False(t, b.opened(t))
	b.From.Exec(t, "update customer set name = 'free'")
}

func TestInspectShowsBothSides(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.mustRun(t)
	conn, err := b.Target.Connect(t.Context(), b.Spec.ID.Session("stream", 9))
	require.NoError(t, err)
	defer pg.Close(conn)
	found, err := cutover.Inspect(t.Context(), b.Source, b.Target, b.Spec.ID)
	require.NoError(t, err)
	require.Empty(t, found.Errors)
	require.NotNil(t, found.Ledger.OpenedAt)
	require.Equal(t, b.Spec.ID.Slot(), found.Slot.Name)
	require.LessOrEqual(t, found.Slot.Confirmed, found.Ledger.Applied)
	require.Len(t, found.Fences, 1)
	require.NotEmpty(t, found.Sessions)
	require.Positive(t, found.Ledger.Lanes["cutover"])
	_, err = json.Marshal(found)
	require.NoError(t, err)
}

func TestReadOnlyFence(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, func(s *migration.Spec) { s.Cutover.Fence = "read-only" })
	old := b.From.Conn(t)
	_, err := old.Exec(t.Context(), "begin; update customer set name = 'never' where id = 1")
	require.NoError(t, err)
	// Given up: writers are back, also those who came while the database was closed.
	b.To.Exec(t, "update customer set name = 'other' where id = 2")
	_, err = b.run(t)
	_ = slottest.MustFault(t, migration.FaultNotReady, err)
	_, err = old.Exec(t.Context(), "commit")
	require.Error(t, err)
	b.mustBeAsBefore(t)
	b.To.Exec(t, "update customer set name = 'c2' where id = 2")
	evidence := b.mustRun(t)
	require.Positive(t, evidence.WriteBlocked)
	_, err = b.From.Conn(t).Exec(t.Context(), "update customer set name = 'x'")
	require.Equal(t, "25006", pg.SQLState(err))
	pgtest.MustEqual(t, b.From, b.To)
	removed, err := cutover.Unfence(t.Context(), b.Source)
	require.NoError(t, err)
	require.Len(t, removed, 2)
	b.From.Exec(t, "update customer set name = 'x'")
}

// A role that may lock but does not own the tables closes the database by its default.
func TestRoleWithoutTriggerRightClosesTheDatabase(t *testing.T) {
	t.Parallel()
	b := acrossServers(t, pgtest.Server(t), pgtest.Shared(t), shop)
	role := "closer_" + b.Spec.ID.Short()
	b.From.Exec(t, fmt.Sprintf(`create role %[1]s login replication in role pg_signal_backend, pg_read_all_stats, pg_read_all_data, pg_write_all_data;
		alter database %[2]s owner to %[1]s`, role, b.From.Name))
	b.Source = b.as(t, role)
	evidence := b.mustRun(t)
	require.Len(t, evidence.Notes, 1)
	require.Contains(t, evidence.Notes[0], "read-only by default")
	require.Contains(t, evidence.Notes[0], "sessions that the role may not end", "the test's own are a superuser's")
	_, err := b.From.Conn(t).Exec(t.Context(), "update customer set name = 'x'")
	require.Equal(t, "25006", pg.SQLState(err))
	removed, err := cutover.Unfence(t.Context(), b.Source)
	require.NoError(t, err)
	require.Len(t, removed, 2)
}

// A role with neither right does not stop the cutover; the report says what could not be done.
func TestSourceThatCannotBeClosedIsSaid(t *testing.T) {
	t.Parallel()
	b := acrossServers(t, pgtest.Server(t), pgtest.Shared(t), shop)
	role := "poor_" + b.Spec.ID.Short()
	b.From.Exec(t, fmt.Sprintf("create role %s login replication in role pg_read_all_stats, pg_read_all_data, pg_write_all_data", role))
	b.Source = b.as(t, role)
	evidence := b.mustRun(t)
	require.Len(t, evidence.Notes, 1)
	require.Contains(t, evidence.Notes[0], "the source could not be closed")
	pgtest.MustEqual(t, b.From, b.To)
}

func (b bench) as(t *testing.T, role string) *pg.Server {
	t.Helper()
	uri, err := url.Parse(b.From.URI)
	require.NoError(t, err)
	uri.User = url.User(role)
	// Sessions of the superuser, which this role may not end, take a moment to go.
	b.From.WaitUntil(t, "select count(*) = 0 from pg_stat_activity where datname = current_database() and application_name like 'pgdts/%'")
	server, err := pg.NewServer(migration.Source, migration.Endpoint{URI: uri.String()}, nil)
	require.NoError(t, err)
	return server
}

// With the session the locks are gone: what is written then must not be lost behind an opening.
func TestLostFenceEndsTheCutover(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	config := b.at(t, "marker", func() {
		b.From.WaitUntil(t, `select count(*) = 1 from pg_stat_activity a join pg_locks l using (pid)
			where a.datname = current_database() and a.state = 'idle in transaction' and l.mode = 'ShareRowExclusiveLock'
			  and l.relation = 'customer'::regclass`)
		b.From.Exec(t, `select pg_terminate_backend(pid) from pg_locks where mode = 'ShareRowExclusiveLock' and relation = 'customer'::regclass`)
		b.From.Exec(t, "update customer set name = 'between' where id = 1")
	})
	_, err := cutover.Run(t.Context(), config)
	_ = slottest.MustFault(t, migration.FaultConnection, err)
	b.mustBeAsBefore(t)
}

func TestOldestSourceIsFencedToo(t *testing.T) {
	t.Parallel()
	b := acrossServers(t, pgtest.Server(t, pgtest.Major(10)), pgtest.Shared(t), `
		create table customer (id int primary key, name text); insert into customer values (1, 'a'), (2, 'b');
		create table log (f float8); insert into log values (0.1), (1e-300);
		create table part (id int, day date) partition by range (day);
		create table part_1 partition of part for values from ('2020-01-01') to ('2021-01-01');
		insert into part values (1, '2020-05-05'); create sequence ticket increment -1; select nextval('ticket')`)
	b.From.Exec(t, "update customer set name = 'z' where id = 2; update log set f = f + 1; insert into part values (2, '2020-06-06')")
	evidence := b.mustRun(t)
	require.Equal(t, "hash", evidence.Verified)
	pgtest.MustEqual(t, b.From, b.To)
	for _, statement := range []string{
		"insert into customer values (3, 'c')", "truncate log", "insert into part values (3, '2020-07-07')", "delete from part_1",
	} {
		_, err := b.From.Conn(t).Exec(t.Context(), statement)
		require.Equal(t, "25006", pg.SQLState(err), statement)
	}
	removed, err := cutover.Unfence(t.Context(), b.Source)
	require.NoError(t, err)
	require.Len(t, removed, 2)
	b.From.Exec(t, "insert into part values (3, '2020-07-07')")
}
