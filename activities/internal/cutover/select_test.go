package cutover_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// objects sets what is selected, as a definition's defaults do.
func objects(selected ...migration.Object) func(*migration.Spec) {
	return func(spec *migration.Spec) {
		spec.Objects, spec.EverythingElse = selected, migration.ExcludeElse
	}
}

func (b bench) mustRefuse(t *testing.T, statement string) {
	t.Helper()
	_, err := b.From.Conn(t).Exec(t.Context(), statement)
	require.Equal(t, "25006", pg.SQLState(err), "%s: %v", statement, err)
}

// What a definition leaves out is not ours to lock, to close, to count or to name.
func TestTablesThatAreNotSelectedStayWritable(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop+`; create schema other; create table other.free (id int primary key); create sequence other.free_seq`,
		objects(migration.Object{Schema: "public", Exclude: []string{"log", "part_2", "scratch"}}))
	b.From.Exec(t, "create table other.later (id int); create table later (id int)")
	config := b.at(t, "marker", func() {
		b.From.Exec(t, `set lock_timeout = '5s'; insert into log (what) values ('during'); insert into part_2 values (77, '2021-03-03');
			update scratch set v = 'b'; insert into other.free values (1)`)
	})
	evidence, err := cutover.Run(t.Context(), config)
	require.NoError(t, err)
	require.Equal(t, "hash", evidence.Verified)
	require.Equal(t, 2, evidence.Sequences)
	require.Len(t, evidence.Notes, 1, "%v", evidence.Notes)
	require.Contains(t, evidence.Notes[0], "1 tables were made on the source after the migration began, and were not migrated: public.later")
	b.From.Exec(t, "insert into log (what) values ('after'); insert into part_2 values (78, '2021-03-03'); insert into other.free values (2); insert into later values (1)")
	b.mustRefuse(t, "insert into customer values (1000, 'x')")
	b.mustRefuse(t, "insert into part values (1000, '2020-02-02')")
	require.Equal(t, "customer part part_1 purchase", pgtest.Value[string](t, b.To,
		"select string_agg(relname, ' ' order by relname) from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace"))
}

// Rows reach a partition by statements that name its root, whose triggers are not ours to make.
func TestPartitionAloneRefusesRowsThroughItsRoot(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, objects(migration.Object{Table: "public.part_2"}))
	b.mustRun(t)
	b.mustRefuse(t, "insert into part values (99, '2021-02-02')")
	b.mustRefuse(t, "insert into part_2 values (99, '2021-02-02')")
	b.mustRefuse(t, "update part set id = id + 1000")
	b.mustRefuse(t, "delete from part")
	b.mustRefuse(t, "truncate part")
	b.From.Exec(t, "insert into part values (99, '2020-02-02'); delete from part_1 where id = 99; insert into customer values (1000, 'x')")
	reader := b.From.Conn(t)
	_, err := reader.Exec(t.Context(), "begin; select count(*) from part_2")
	require.NoError(t, err)
	_, err = cutover.Unfence(t.Context(), b.Source)
	require.NoError(t, err)
	b.From.Exec(t, "insert into part values (99, '2021-02-02'); update part set id = 100 where id = 99; delete from part where id = 1")
	require.Equal(t, 20, pgtest.Value[int](t, b.From, "select count(*) from part_2"), "a trigger that does nothing must not swallow rows")
	require.Equal(t, 1, pgtest.Value[int](t, b.From, "select count(*) from part_2 where id = 100"))
}

func TestRenamedAndFilteredTablesAreCutOver(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, func(spec *migration.Spec) {
		spec.Objects = []migration.Object{
			{Schema: "public", Rename: "shop"},
			{Table: "public.customer", Rename: "client", Columns: migration.Columns{Rename: map[string]string{"name": "called"}}},
			{Table: "public.purchase", Where: "customer > 50"},
			{Table: "public.log", WithoutKey: migration.InsertOnly, Where: "what <> 'l7'"},
		}
		spec.EverythingElse = migration.ExcludeElse
		spec.Identity = migration.IdentitySetFull
		spec.Transform = []migration.Transform{{Tables: []string{"public.customer"}, Set: map[string]string{"name": "upper(name)"}}}
	})
	b.From.Exec(t, `insert into purchase (customer, note) values (1, 'out'), (60, 'in'); update purchase set customer = 2 where customer = 70;
		update purchase set customer = 80 where customer = 3; update log set what = 'changed' where what = 'l1'; update customer set name = 'x' where id = 1;
		insert into part values (50, '2020-05-05')`)
	evidence := b.mustRun(t)
	require.Equal(t, "hash", evidence.Verified)
	require.Equal(t, 2, evidence.Sequences)
	require.Equal(t, 49+1-1+1+1, pgtest.Value[int](t, b.To, "select count(*) from shop.purchase"))
	require.Equal(t, 49, pgtest.Value[int](t, b.To, "select count(*) from shop.log"))
	require.Equal(t, "X C2", pgtest.Value[string](t, b.To, "select string_agg(called, ' ' order by id) from shop.client where id < 3"))
	require.Equal(t, 41, pgtest.Value[int](t, b.To, "select count(*) from shop.part"))
	require.EqualValues(t, 103, pgtest.Value[int64](t, b.To, "select nextval('shop.purchase_id_seq')"))
	require.EqualValues(t, 3, pgtest.Value[int64](t, b.To, "select nextval('shop.ticket')"))
}

// Under the fence too, a row that is not as it was promised gives the cutover up.
func TestFilteredTableThatDiffersIsNotCutOver(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, objects(migration.Object{Table: "public.customer", Where: "id <= 50"}))
	b.To.Exec(t, "insert into customer values (60, 'c60')")
	_, err := b.run(t)
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Object, "public.customer (50 rows on the source, 51 on the target, by hash)")
	b.mustStayOpen(t)
	b.To.Exec(t, "delete from customer where id = 60")
	b.mustRun(t)
}

func (b bench) mustStayOpen(t *testing.T) {
	t.Helper()
	require.False(t, b.opened(t))
	b.From.Exec(t, "set lock_timeout = '5s'; update customer set name = name || '!' where id = 1")
}

func TestTablesOfFewOperationsAreNotHeldToMore(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, objects(
		migration.Object{Table: "public.customer", Operations: migration.Operations{migration.OperationInsert, migration.OperationUpdate}},
		migration.Object{Table: "public.part*", Operations: migration.Operations{migration.OperationInsert}},
	))
	b.From.Exec(t, "delete from purchase; delete from customer where id < 10; update customer set name = 'y' where id = 20; update part set id = id + 100; insert into part values (1, '2020-01-01')")
	evidence := b.mustRun(t)
	require.Equal(t, "hash", evidence.Verified)
	require.Len(t, evidence.Notes, 1, "%v", evidence.Notes)
	require.Contains(t, evidence.Notes[0], "2 tables were not compared")
	require.Equal(t, "100 y", pgtest.Value[string](t, b.To, "select count(*) || ' ' || max(name) filter (where id = 20) from customer"))
	require.Equal(t, 41, pgtest.Value[int](t, b.To, "select count(*) from part"))
}

// A partition that comes later is the tree's: it has its names, its filter, and its rows are asked for.
func TestPartitionMadeSinceThePlanIsMappedLikeItsTree(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, objects(migration.Object{Table: "public.part*", Rename: "tree$1", Where: "id > 5"}))
	b.From.Exec(t, `create table part_3 (like part including all); insert into part_3 values (1, '2022-02-02'), (10, '2022-02-02');
		alter table part attach partition part_3 for values from ('2022-01-01') to ('2023-01-01')`)
	_, err := b.run(t)
	mustMiss(t, "public.part_3", err)
	if fault, _ := migration.AsFault(err); fault.Kind == migration.FaultNotReady {
		require.Contains(t, fault.Message, "public.tree_3")
	}
	b.To.Exec(t, "create table tree_3 partition of tree for values from ('2022-01-01') to ('2023-01-01')")
	b.From.Exec(t, "insert into part values (2, '2022-02-02'), (20, '2022-02-02')")
	_, err = b.run(t)
	require.Contains(t, slottest.MustFault(t, migration.FaultNotReady, err).Object, "public.part_3 (2 rows on the source, 1 on the target")
	b.To.Exec(t, "insert into tree_3 values (10, '2022-02-02')")
	evidence := b.mustRun(t)
	require.Equal(t, "hash", evidence.Verified)
	b.mustRefuse(t, "insert into part_3 values (30, '2022-02-02')")
}

// Making the database read-only would stop those who write to tables that are not migrated.
func TestDatabaseWithOtherTablesIsNotClosedByDefault(t *testing.T) {
	t.Parallel()
	b := acrossServers(t, pgtest.Server(t), pgtest.Shared(t), shop, objects(migration.Object{Table: "public.customer"}))
	role := "half_" + b.Spec.ID.Short()
	b.From.Exec(t, fmt.Sprintf(`create role %[1]s login replication in role pg_signal_backend, pg_read_all_stats, pg_read_all_data, pg_write_all_data;
		alter database %[2]s owner to %[1]s`, role, b.From.Name))
	b.Source = b.as(t, role)
	evidence := b.mustRun(t)
	require.Len(t, evidence.Notes, 1)
	require.Contains(t, evidence.Notes[0], "the source was not closed")
	b.From.Exec(t, "insert into log (what) values ('still here')")
}
