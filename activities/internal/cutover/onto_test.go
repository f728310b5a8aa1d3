package cutover_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func types(types ...migration.Type) func(*migration.Spec) {
	return func(spec *migration.Spec) { spec.Types = types }
}

func merge(spec *migration.Spec) {
	spec.Objects = []migration.Object{{Table: "public.eu", Rename: "merged"}, {Table: "public.us", Rename: "merged"}}
	spec.EverythingElse = migration.ExcludeElse
	spec.Transform = []migration.Transform{
		{Tables: []string{"public.eu"}, Set: map[string]string{"region": "'eu'"}},
		{Tables: []string{"public.us"}, Set: map[string]string{"region": "'us'"}},
	}
}

const regions = `
create table eu (id serial primary key, v text); create table us (id serial primary key, v text);
insert into eu (v) select 'e' || i from generate_series(1, 30) i; insert into us (v) select 'u' || i from generate_series(1, 50) i`

func TestMergedTablesAreCutOver(t *testing.T) {
	t.Parallel()
	b := newBenchOnto(t, regions, "create table merged (id int, v text, region text, primary key (id, region))",
		types(migration.TypeFull, migration.TypeIncremental), merge)
	b.From.Exec(t, "update eu set v = 'x' where id = 1; delete from us where id = 1; insert into us (v) values ('new')")
	b.To.Exec(t, "update merged set v = 'foreign' where id = 2 and region = 'us'")
	_, err := b.run(t)
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Object, "public.us")
	require.NotContains(t, fault.Object, "public.eu")
	b.To.Exec(t, "update merged set v = 'u2' where id = 2 and region = 'us'")
	evidence := b.mustRun(t)
	require.Equal(t, "hash", evidence.Verified)
	require.Equal(t, "30 50", pgtest.Value[string](t, b.To,
		"select count(*) filter (where region = 'eu') || ' ' || count(*) filter (where region = 'us') from merged"))
	b.mustRefuse(t, "insert into eu (v) values ('late')")
	b.mustRefuse(t, "insert into us (v) values ('late')")
}

// Rows that the target had before stay, are counted apart, and do not keep the cutover away.
func TestKeptRowsDoNotGate(t *testing.T) {
	t.Parallel()
	b := newBenchOnto(t, "create table x (id int primary key, v text); insert into x select i, 's' from generate_series(1, 50) i; create sequence s; select setval('s', 10)",
		"create table x (id int primary key, v text); insert into x select i, 'own' from generate_series(41, 60) i; create sequence s; select setval('s', 20)",
		func(spec *migration.Spec) { spec.Conflict = migration.ConflictIgnore })
	b.From.Exec(t, "update x set v = 'newer' where id = 45; delete from x where id = 46")
	evidence := b.mustRun(t)
	require.Equal(t, "hash", evidence.Verified)
	require.Len(t, evidence.Verdicts, 1)
	require.True(t, evidence.Verdicts[0].Equal)
	require.Equal(t, "subset", evidence.Verdicts[0].Method)
	require.EqualValues(t, 8, evidence.Verdicts[0].Kept)
	require.Equal(t, "59 18", pgtest.Value[string](t, b.To, "select count(*) || ' ' || count(*) filter (where v = 'own') from x"))
	require.EqualValues(t, 21, pgtest.Value[int64](t, b.To, "select nextval('s')"))
}

func TestMissingRowOfAKeepingTableGates(t *testing.T) {
	t.Parallel()
	b := newBenchOnto(t, "create table x (id int primary key, v text); insert into x select i, 's' from generate_series(1, 50) i",
		"create table x (id int primary key, v text); insert into x values (1, 'own')",
		func(spec *migration.Spec) { spec.Conflict = migration.ConflictIgnore })
	b.To.Exec(t, "delete from x where id = 30; update x set v = 'x' where id = 31")
	_, err := b.run(t)
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Object, "public.x (of 50 rows of the source the target lacks 1 and has 1 otherwise)")
}

// Changes from now on say nothing about the rows before them.
func TestChangesFromNowOnAreCutOverUncompared(t *testing.T) {
	t.Parallel()
	b := newBenchOnto(t, "create table x (id int primary key, v text); create table log (v text); insert into x select i, 's' from generate_series(1, 50) i; insert into log values ('a')",
		"create table x (id int primary key, v text); create table log (v text); insert into x select i, 'restored' from generate_series(1, 20) i",
		types(migration.TypeIncremental))
	b.From.Exec(t, "update x set v = 'new' where id in (1, 30); delete from x where id = 40; insert into log values ('b'); update log set v = 'c'")
	b.From.WaitUntil(t, "select n_tup_upd > 0 from pg_stat_user_tables where relname = 'log'")
	evidence := b.mustRun(t)
	require.Equal(t, "none", evidence.Verified)
	require.Len(t, evidence.Notes, 2, "%v", evidence.Notes)
	require.Contains(t, evidence.Notes[0], "nothing was compared")
	require.Contains(t, evidence.Notes[1], "not in the stream, and are not equal on the target: public.log")
	require.Equal(t, "new", pgtest.Value[string](t, b.To, "select v from x where id = 1"))
	require.Equal(t, "b", pgtest.Value[string](t, b.To, "select string_agg(v, ' ') from log"))
	b.mustRefuse(t, "insert into x values (1000, 'x')")
}

// A person has restored a snapshot and made the slot with it: then every row must be there.
func TestChangesSinceAPersonsSlotAreComparedInFull(t *testing.T) {
	t.Parallel()
	const table = "create table x (id int primary key, v text); insert into x select i, 's' from generate_series(1, 50) i"
	b := bench{slottest.New(t, pgtest.Shared(t), table)}
	b.To.Exec(t, table)
	b.From.Exec(t, "create publication "+b.Spec.ID.Publication()+" for table only x")
	b.From.Exec(t, "select pg_create_logical_replication_slot('by_hand', 'pgoutput')")
	b.From.Exec(t, "update x set v = 'since' where id = 1")
	b = incremental(t, b, types(migration.TypeIncremental), func(spec *migration.Spec) { spec.Incremental.Slot = "by_hand" })
	b.From.Exec(t, "delete from x where id = 2")
	evidence := b.mustRun(t)
	require.Equal(t, "hash", evidence.Verified)
	require.Empty(t, evidence.Verdicts)
	pgtest.MustEqual(t, b.From, b.To)
}
