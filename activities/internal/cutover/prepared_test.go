package cutover_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// small is what every version has.
const small = smallTables + smallRows

const smallTables = `
create table customer (id int primary key, name text not null);
create table log (at timestamptz not null default now(), what text);
create unlogged table scratch (id int primary key, v text);
create table part (id int not null, day date not null) partition by range (day);
create table part_1 partition of part (primary key (id)) for values from ('2020-01-01') to ('2021-01-01');
create sequence ticket;`

const smallRows = `
insert into customer select n, 'c' || n from generate_series(1, 100) n;
insert into log (what) select 'l' || n from generate_series(1, 50) n;
insert into part select n, '2020-06-01' from generate_series(1, 20) n;
insert into scratch values (1, 'a');
select nextval('ticket'), nextval('ticket');`

// asReader is a migration whose source is seen by a role that may read and replicate, and nothing else. An administrator
// has prepared the rest, twice.
func asReader(t *testing.T, from *pgserver.Server, setup string, change ...func(bench)) bench {
	t.Helper()
	source, target := pgtest.Database(t, from), pgtest.Database(t, pgtest.Shared(t))
	source.Exec(t, setup)
	b := bench{slottest.Existing(t, migration.RandomID("test"), roleURI(t, source.URI, "reader"), target.URI)}
	b.From, b.To = source, target
	source.Exec(t, "create schema dts_sync; create role reader login replication; grant select on all tables in schema public to reader; "+
		"grant select on all sequences in schema public to reader")
	for _, f := range change {
		f(b)
	}
	for range 2 {
		source.Exec(t, b.preparation(t))
	}
	conn := b.Connect(t, b.Target)
	require.NoError(t, ledger.Create(t.Context(), conn))
	require.NoError(t, ledger.Ledger{ID: b.Spec.ID, Conn: conn}.Acquire(t.Context(), slottest.Run, b.Spec))
	return incremental(t, b)
}

func roleURI(t *testing.T, uri, role string) string {
	t.Helper()
	parsed, err := url.Parse(uri)
	require.NoError(t, err)
	parsed.User = url.User(role)
	return parsed.String()
}

// preparation is what an administrator runs for the role.
func (b bench) preparation(t *testing.T) string {
	t.Helper()
	conn := b.Connect(t, b.Source)
	selection, _, err := mapping.Read(t.Context(), conn, b.Spec)
	require.NoError(t, err)
	wanted, err := slot.Want(t.Context(), conn, b.Spec, selection.Tables)
	require.NoError(t, err)
	fence := cutover.NewPreparedFence(b.Spec.ID, selection.Tables, wanted.Members())
	return strings.Join(wanted.Statements("reader"), "\n") + "\n" + fence.SQL("reader")
}

// A role that may only read has a fence all the same: its administrator's functions lock and close the tables, and open
// them again, and outlive the migration.
func TestReadingRoleClosesTheSourceByPreparedFunctions(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 13, 15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := asReader(t, pgtest.Server(t, pgtest.Major(major)), small, func(b bench) {
				// No pg_dump of this machine may be new enough for the newest server.
				b.To.Exec(t, smallTables)
				b.Spec.Types = []migration.Type{migration.TypeFull, migration.TypeIncremental}
			})
			writers := []*writer{
				{name: "plain", statement: "insert into customer values (1000, 'x')"},
				{name: "update of no row", statement: "update customer set name = 'x' where false"},
				{name: "truncate", statement: "truncate log"},
				{name: "replica role", setup: "set session_replication_role = replica", statement: "insert into customer values (1001, 'x')"},
				{name: "root", statement: "insert into part values (99, '2020-02-02')"},
				{name: "partition", statement: "insert into part_1 values (99, '2020-02-02')"},
				{name: "unlogged", statement: "insert into scratch values (9, 'x')"},
			}
			for _, w := range writers {
				w.conn = b.From.Conn(t)
				if w.setup != "" {
					_, err := w.conn.Exec(t.Context(), w.setup)
					require.NoError(t, err)
				}
			}
			var started sync.WaitGroup
			evidence, err := cutover.Run(t.Context(), b.at(t, "marker", func() {
				for _, w := range writers {
					started.Go(func() { w.write(t) })
				}
				b.From.WaitUntil(t, fmt.Sprintf(`select count(*) = %d from pg_stat_activity
					where datname = current_database() and wait_event_type = 'Lock'`, len(writers)))
			}))
			require.NoError(t, err)
			started.Wait()
			for _, w := range writers {
				require.Equal(t, "25006", pg.SQLState(w.err), "%s: %v", w.name, w.err)
				require.ErrorContains(t, w.err, "has moved to 127.0.0.1:", w.name)
			}
			require.Contains(t, fmt.Sprint(evidence.Notes), "functions that an administrator had prepared")
			pgtest.MustEqual(t, b.From, b.To)

			owed, err := cutover.Cleanup(t.Context(), b.config(t), cutover.Ending{End: migration.PhaseFinished, RemoveLedger: true})
			require.NoError(t, err)
			removed, err := cutover.Unfence(t.Context(), b.Source)
			require.NoError(t, err)
			require.Len(t, removed, 2)
			b.From.Exec(t, "insert into customer values (1000, 'x'); truncate log; insert into part values (99, '2020-02-02')")
			removed, err = cutover.Unfence(t.Context(), b.Source)
			require.NoError(t, err)
			require.Empty(t, removed)
			b.mustBeDroppedBy(t, owed)
		})
	}
}

// mustBeDroppedBy runs what is said to drop the administrator's things, and asks that nothing is left.
func (b bench) mustBeDroppedBy(t *testing.T, owed []string) {
	t.Helper()
	for _, line := range owed {
		_, statements, found := strings.Cut(line, "dropped by: ")
		require.True(t, found, line)
		b.From.Exec(t, statements)
	}
	require.Zero(t, pgtest.Value[int](t, b.From, traces+" + (select count(*) from pg_namespace where nspname = 'pgdts_fence')"))
}

// Whoever dies between the closing of the source and the opening of the target is followed by a reader that can undo it.
func TestPreparedFenceOfADeadAttemptIsLifted(t *testing.T) {
	t.Parallel()
	b := asReader(t, pgtest.Server(t), shop)
	die := b.failpoints(t)
	out, err := die("cutover-blocked=kill")
	require.ErrorContains(t, err, "killed", out)
	require.False(t, b.opened(t))
	_, err = b.From.Conn(t).Exec(t.Context(), "update customer set name = 'lost'")
	require.Equal(t, "25006", pg.SQLState(err), "the source is closed until somebody finds out")
	// A reader in whose presence no trigger can be dropped: the triggers stay and refuse nothing.
	reading := b.From.Conn(t)
	_, err = reading.Exec(t.Context(), "begin; select count(*) from customer")
	require.NoError(t, err)
	removed, err := cutover.Unfence(t.Context(), b.Source)
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(removed), "what the triggers on public.customer do")
	b.From.Exec(t, "update customer set name = 'free' where id = 1")
	_, err = reading.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	evidence := b.mustRun(t)
	require.Contains(t, fmt.Sprint(evidence.Notes), "an administrator had prepared")
	pgtest.MustEqual(t, b.From, b.To)
	_, err = b.From.Conn(t).Exec(t.Context(), "update customer set name = 'x'")
	require.Equal(t, "25006", pg.SQLState(err))
}

// A list that is older than the plan would leave a table open: the cutover is given up, and nothing stays closed.
func TestPreparedFenceThatLacksATableIsRefused(t *testing.T) {
	t.Parallel()
	b := asReader(t, pgtest.Server(t), shop)
	b.From.Exec(t, strings.ReplaceAll(b.preparation(t), `, '"public"."log"'`, ""))
	_, err := b.run(t)
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Message, "does not lock public.log")
	require.Contains(t, fault.Hint, "FENCE_RIGHT")
	b.mustBeAsBefore(t)
	b.From.Exec(t, b.preparation(t))
	b.mustRun(t)
	pgtest.MustEqual(t, b.From, b.To)
}

// Without the functions the refusal names the way to get them.
func TestReaderWithoutPreparedFenceIsToldTheItem(t *testing.T) {
	t.Parallel()
	b := asReader(t, pgtest.Server(t), shop)
	b.From.Exec(t, "revoke execute on function dts_sync.fence_lock_"+b.Spec.ID.Short()+"(oid[]) from reader")
	_, err := b.run(t)
	require.Contains(t, slottest.MustFault(t, migration.FaultNotReady, err).Hint, "FENCE_RIGHT")
	b.mustBeAsBefore(t)
}

// A partition that comes after the functions were made is locked and closed with its root.
func TestPreparedFenceKnowsLaterPartitions(t *testing.T) {
	t.Parallel()
	b := asReader(t, pgtest.Server(t), shop)
	later := "create table part_3 partition of part for values from ('2022-01-01') to ('2023-01-01')"
	b.From.Exec(t, later+"; grant select on part_3 to reader; insert into part values (1, '2022-05-05')")
	b.To.Exec(t, later)
	b.mustRun(t)
	pgtest.MustEqual(t, b.From, b.To)
	_, err := b.From.Conn(t).Exec(t.Context(), "insert into part_3 values (2, '2022-05-05')")
	require.Equal(t, "25006", pg.SQLState(err))
}

// The functions are for one role, whatever it may do by itself: nobody else calls them, and no name on its search path
// leads them astray.
func TestPreparedFunctionsServeOneRoleOnly(t *testing.T) {
	t.Parallel()
	b := asReader(t, pgtest.Server(t), shop)
	b.From.Exec(t, "create role stranger login; grant usage on schema dts_sync to stranger")
	conn := b.Connect(t, b.as(t, "stranger"))
	for _, call := range []string{"lock_%s('{}')", "block_%s('x')", "disarm_%s()", "lift_%s(0)"} {
		_, err := conn.Exec(t.Context(), "select dts_sync.fence_"+fmt.Sprintf(call, b.Spec.ID.Short()))
		require.Equal(t, "42501", pg.SQLState(err), call)
	}
	reader := b.Connect(t, b.Source)
	_, err := reader.Exec(t.Context(), `set search_path = pg_temp, pg_catalog;
		create function pg_temp.to_regnamespace(text) returns regnamespace language plpgsql as $$begin raise 'astray'; end$$;
		create temp table pg_trigger (tgrelid oid, tgname name, tgfoid oid);
		begin; select dts_sync.fence_block_`+b.Spec.ID.Short()+`('x'); select dts_sync.fence_disarm_`+b.Spec.ID.Short()+`(); rollback`)
	require.NoError(t, err)
}

// Who owned the schema could put a function of his own in the place of one that the administrator's functions call.
func TestReaderCannotReplacePreparedFunctions(t *testing.T) {
	t.Parallel()
	b := asReader(t, pgtest.Server(t), shop, func(b bench) { b.From.Exec(t, "alter schema dts_sync owner to reader") })
	reader := b.Connect(t, b.Source)
	tables := "dts_sync.fence_tables_" + b.Spec.ID.Short() + "()"
	_, err := reader.Exec(t.Context(), "drop function "+tables)
	require.Equal(t, "42501", pg.SQLState(err))
	_, err = reader.Exec(t.Context(), "create function dts_sync.mine() returns int language sql as 'select 1'")
	require.Equal(t, "42501", pg.SQLState(err))

	b.From.Exec(t, "create schema pgdts_fence authorization reader")
	_, err = reader.Exec(t.Context(), "select dts_sync.fence_block_"+b.Spec.ID.Short()+"('x')")
	require.Equal(t, "42501", pg.SQLState(err))
	require.ErrorContains(t, err, "pgdts_fence")

	b.From.Exec(t, "alter schema dts_sync owner to reader")
	selection, _, err := mapping.Read(t.Context(), reader, b.Spec)
	require.NoError(t, err)
	wanted, err := slot.Want(t.Context(), reader, b.Spec, selection.Tables)
	require.NoError(t, err)
	fence := cutover.NewPreparedFence(b.Spec.ID, selection.Tables, wanted.Members())
	lacking, err := fence.Lacking(t.Context(), reader, nil)
	require.NoError(t, err)
	require.Contains(t, lacking, "schema dts_sync does not belong to")
}
