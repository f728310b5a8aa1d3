package bulk_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/bulk"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// newMappedBench has other tables on the target than on the source, none of them made by the migration.
func newMappedBench(t *testing.T, source, target string) *bench {
	t.Helper()
	b := newBench(t, "")
	b.source.Exec(t, source)
	b.target.Exec(t, target)
	b.config.ChunkBytes = 64 << 10
	return b
}

// change makes a planned table what a definition would have made of it.
func (b *bench) change(name string, change func(*ledger.Table)) {
	b.Helper()
	tables, err := b.book.Tables(b.Context())
	require.NoError(b, err)
	for _, t := range tables {
		if t.Name.Name != name {
			continue
		}
		change(&t)
		def, err := json.Marshal(t.Table)
		require.NoError(b, err)
		b.target.Exec(b, "update dts_sync.tbl set def = $2, target_schema = $3, target_name = $4, was_empty = $5 where relid = $1",
			t.OID, def, t.Target.Schema, t.Target.Name, t.WasEmpty)
		return
	}
	b.Fatalf("no table %s", name)
}

func to(schema, name string) migration.TableName {
	return migration.TableName{Schema: schema, Name: name}
}

func (b *bench) mustHold(want, have string) {
	b.Helper()
	require.Equal(b, b.source.Query(b, want), b.target.Query(b, have))
}

func (b *bench) kept() [][]string {
	b.Helper()
	return b.target.Query(b, "select t.name, k.key from dts_sync.kept k join dts_sync.tbl t using (migration, relid) order by 1, 2")
}

func TestOnlyRowsThatAreWantedAreCopied(t *testing.T) {
	t.Parallel()
	b := newMappedBench(t, `create table t (id int primary key, a int, b text, pad text);
		insert into t select g, nullif(g % 7, 0), nullif(g % 3, 0)::text, repeat('x', 200) from generate_series(1, 5000) g`,
		`create table t (id int primary key, a int, b text, pad text)`)
	require.Greater(t, b.plan().Chunks, 5)
	b.change("t", func(t *ledger.Table) { t.Where, t.DropIf = "a > 3 or a < 2 -- one of them", "b = '2'" })
	b.copy(2)
	// A condition that is unknown leaves a row out, a reason to drop it that is unknown does not.
	b.mustHold("select * from t where (a > 3 or a < 2) and b is distinct from '2' order by id", "select * from t order by id")
	require.NotEqual(t, "0", b.target.Query(t, "select count(*) from t where b is null")[0][0])
	require.Equal(t, "0", b.target.Query(t, "select count(*) from t where a is null")[0][0])
	require.Equal(t, b.target.Query(t, "select count(*) from t"), b.target.Query(t, "select sum(rows) from dts_sync.chunk"))
}

func TestTransformedColumnsArriveAsTheTargetsTypes(t *testing.T) {
	t.Parallel()
	b := newMappedBench(t, `create type mood as enum ('sad', 'ok'); create table t (id int primary key, name text, n numeric);
		insert into t select g, 'Name' || g, g / 7.0 from generate_series(1, 1000) g; insert into t values (2000, null, null)`,
		`create type mood as enum ('sad', 'ok'); create type only_here as enum ('x', 'y'); create schema other;
		create table t (id bigint primary key, name varchar(20), n int, origin text, feeling mood, mine only_here, at timestamptz, code char(4), nothing int)`)
	b.plan()
	b.change("t", func(t *ledger.Table) {
		t.Into = []mapping.Column{
			{Name: "id", Source: "id"},
			{Name: "name", Source: "name", Set: "upper(name) -- loud", Reads: []string{"name"}},
			{Name: "n", Source: "n", Set: "n * 2", Reads: []string{"n"}},
			{Name: "at", Set: "'2020-02-03 04:05:06+00'"},
			{Name: "code", Set: "id % 10", Reads: []string{"id"}},
			{Name: "feeling", Set: "case when id % 2 = 0 then 'sad' else 'ok' end", Reads: []string{"id"}},
			{Name: "mine", Set: "'y'"},
			{Name: "nothing", Set: "null"},
			{Name: "origin", Set: "'shop-1'"},
		}
	})
	b.copy(1)
	b.mustHold(`select id, upper(name), (n * 2)::int, 'shop-1', case when id % 2 = 0 then 'sad' else 'ok' end, 'y',
		'2020-02-03 04:05:06+00'::timestamptz, (id % 10)::text::char(4), null from t order by id`, "select * from t order by id")
	require.Equal(t, "1001", b.target.Query(t, "select count(*) from t")[0][0])
}

// A cast would cut a value off without a word.
func TestTransformedValueThatIsTooLongIsRefused(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{"varchar(3)", "char(3)", "bit(3)"} {
		b := newMappedBench(t, "create table t (id int primary key); insert into t values (1)", "create table t (id int primary key, v "+typ+")")
		b.plan()
		expression := "'abcdef'"
		if typ == "bit(3)" {
			expression = "B'1111'"
		}
		b.change("t", func(t *ledger.Table) {
			t.Into = append(t.Into, mapping.Column{Name: "v", Set: expression})
		})
		b.target.Exec(t, "update dts_sync.chunk set failed_at = now() - interval '1 day', error = 'before'")
		fault := b.fails()
		require.Equal(t, migration.FaultWindow, fault.Kind, fault.Error())
		require.Equal(t, "22", fault.SQLState[:2], fault.Error())
		require.Equal(t, "0", b.target.Query(t, "select count(*) from t")[0][0])
	}
}

func TestNamesAndColumnsOfTheTarget(t *testing.T) {
	t.Parallel()
	b := newMappedBench(t, `create schema "Shop"; create table "Shop"."Item" (
			"Id" int generated always as identity primary key, "Name" text, secret text, made int generated always as (7) stored, later int);
		insert into "Shop"."Item" ("Name", secret, later) select 'n' || g, 's', g from generate_series(1, 3000) g`,
		`create schema store; create table store.item (number bigint generated always as identity primary key, name text, made int,
			later int generated always as (9) stored, added text default 'here')`)
	b.plan()
	b.change("Item", func(t *ledger.Table) {
		t.Target, t.TargetKey = to("store", "item"), []string{"number"}
		t.Into = []mapping.Column{{Name: "number", Source: "Id"}, {Name: "name", Source: "Name"}}
	})
	b.copy(2)
	b.mustHold(`select "Id", "Name", null, 9, 'here' from "Shop"."Item" order by 1`, "select number, name, made, later, added from store.item order by 1")
	require.NotEqual(t, "0", b.target.Query(t, "select reltuples from pg_class where relname = 'item'")[0][0], "analyzed")
	statuses, err := b.book.TableStatuses(t.Context())
	require.NoError(t, err)
	require.Equal(t, "Shop.Item", statuses[0].Table)
	require.Equal(t, "store.item", statuses[0].Target)
}

func TestRowsOfTheTargetAreKeptAndListed(t *testing.T) {
	t.Parallel()
	b := newMappedBench(t, `create extension citext;
		create table t (a int, b text, v text, pad text, primary key (a, b)); create table w (k citext primary key, v int);
		insert into t select g, case g % 4 when 0 then 'x,"y"' when 1 then '' else 'p' end, 'source', repeat('x', 200) from generate_series(1, 3000) g;
		insert into w values ('One', 1), ('Two', 2)`,
		`create extension citext;
		create table "T" (key_b text, v text, key_a int generated always as identity, pad text, own int default 5, primary key (key_a, key_b));
		create table w (k citext primary key, v int);
		insert into "T" (key_a, key_b, v) overriding system value values (1, '', 'target'), (2, 'p', 'target'), (4, 'x,"y"', 'target'), (3000, 'x,"y"', 'target'),
			(5, 'p', 'other key'), (-1, 'p', 'alone');
		insert into w values ('ONE', 0)`)
	b.config.Spec.Conflict = migration.ConflictIgnore
	require.Greater(t, b.plan().Chunks, 5)
	b.change("t", func(t *ledger.Table) {
		t.Target, t.TargetKey, t.Existing, t.Keep = to("public", "T"), []string{"key_a", "key_b"}, true, true
		t.Into = []mapping.Column{{Name: "key_a", Source: "a"}, {Name: "key_b", Source: "b"}, {Name: "v", Source: "v"}, {Name: "pad", Source: "pad"}}
	})
	b.copy(3)
	require.Equal(t, [][]string{{"t", `(1,"")`}, {"t", "(2,p)"}, {"t", `(3000,"x,""y""")`}, {"t", `(4,"x,""y""")`}, {"w", "(One)"}}, b.kept())
	require.Equal(t, [][]string{{"alone", "1"}, {"other key", "1"}, {"source", "2996"}, {"target", "4"}},
		b.target.Query(t, `select v, count(*) from "T" group by 1 order by 1`))
	require.Equal(t, [][]string{{"ONE", "0"}, {"Two", "2"}}, b.target.Query(t, "select k, v from w order by 1"))
	require.Equal(t, [][]string{{"2996", "4"}}, b.target.Query(t, "select sum(rows), sum(kept) from dts_sync.chunk join dts_sync.tbl using (migration, relid) where name = 't'"))
	statuses, err := b.book.TableStatuses(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(4), statuses[0].Kept)
	require.Equal(t, int64(2996), statuses[0].Rows.Copied)
	report, err := b.book.Report(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(5), report.Kept)
	require.Equal(t, int64(2997), report.Rows)
}

func TestTablesAreMergedIntoOne(t *testing.T) {
	t.Parallel()
	b := newMappedBench(t, `create table a (id int primary key, v text); create table b (id int primary key, v text);
		insert into a select g, 'a' from generate_series(1, 3000) g; insert into b select g, 'b' from generate_series(1000, 4000) g`,
		`create table ab (shard text, id int, v text, primary key (shard, id))`)
	b.plan()
	for _, name := range []string{"a", "b"} {
		b.change(name, func(t *ledger.Table) {
			t.Target, t.TargetKey, t.Existing, t.Merged = to("public", "ab"), []string{"id", "shard"}, true, true
			t.Into = append(t.Into, mapping.Column{Name: "shard", Set: "'" + name + "'"})
		})
	}
	b.copy(2)
	b.mustHold("select 'a', id, v from a union all select 'b', id, v from b order by 1, 2", "select shard, id, v from ab order by 1, 2")
}

func TestMergedRowsThatMeetAreAPersonsToTellApart(t *testing.T) {
	t.Parallel()
	b := newMappedBench(t, `create table a (id int primary key, v text); create table b (id int primary key, v text);
		insert into a values (1, 'a'); insert into b values (1, 'b')`, `create table ab (id int primary key, v text)`)
	b.plan()
	for _, name := range []string{"a", "b"} {
		b.change(name, func(t *ledger.Table) { t.Target, t.Existing, t.Merged = to("public", "ab"), true, true })
	}
	fault := b.fails()
	require.Equal(t, migration.FaultConflict, fault.Kind)
	require.Contains(t, fault.Message, "public.a and public.b meet in public.ab")
	require.Contains(t, fault.Hint, "disjoint")
	require.Equal(t, "1", b.target.Query(t, "select count(*) from ab")[0][0])
}

func TestFilterJoinsTheConditionOfAnExtension(t *testing.T) {
	t.Parallel()
	b := newBench(t, `
create extension hstore; create table settings (a int primary key, own bool); insert into settings values (1, true);
alter extension hstore add table settings;
update pg_extension set extconfig = array['settings'::regclass::oid], extcondition = array['WHERE NOT own OR a < 0'] where extname = 'hstore'`)
	b.source.Exec(t, "insert into settings select g, false from generate_series(2, 50) g")
	b.plan()
	b.change("settings", func(t *ledger.Table) { t.Where = "settings.a <= 40" })
	b.copy(1)
	require.Equal(t, [][]string{{"1", "40", "40"}}, b.target.Query(t, "select min(a), max(a), count(*) from settings"))
}

// underFence copies a table again as the cutover does.
func (b *bench) underFence(name string) (int64, error) {
	b.Helper()
	lane := b.lane("cutover")
	source, err := b.config.Source.Connect(b.Context(), lane.Session())
	require.NoError(b, err)
	defer pg.Close(source)
	target, err := b.config.Target.Connect(b.Context(), lane.Session())
	require.NoError(b, err)
	defer pg.Close(target)
	tables, err := b.book.Tables(b.Context())
	require.NoError(b, err)
	for _, table := range tables {
		if table.Name.Name == name {
			_, err = source.Exec(b.Context(), "begin; lock table only "+table.Name.SQL()+" in share row exclusive mode", pgx.QueryExecModeSimpleProtocol)
			require.NoError(b, err)
			return bulk.CopyUnderFence(b.Context(), b.config, source, target, lane, table)
		}
	}
	b.Fatalf("no table %s", name)
	return 0, nil
}

func TestMappedTableIsCopiedAgainUnderTheFence(t *testing.T) {
	t.Parallel()
	b := newMappedBench(t, `create table t (a int, b text); insert into t select g % 10, 'x' from generate_series(1, 1000) g;
		create table other (a int, c text)`,
		`create table u (a int, c text);
		create function no() returns trigger language plpgsql as $$begin raise exception 'no truncate here'; end$$;
		create trigger no before truncate on u execute function no(); create table other (a int, c text)`)
	b.plan()
	b.change("t", func(t *ledger.Table) {
		t.Target, t.Where, t.Existing, t.WasEmpty = to("public", "u"), "a <> 5", true, true
		t.Into = []mapping.Column{{Name: "a", Source: "a"}, {Name: "c", Source: "b", Set: "upper(b)"}}
	})
	b.copy(1)
	b.source.Exec(t, "update t set b = 'y' where a = 3; delete from t where a = 4")
	rows, err := b.underFence("t")
	require.NoError(t, err)
	require.Equal(t, int64(800), rows)
	b.mustHold("select a, upper(b) from t where a <> 5 order by 1, 2", "select a, c from u order by 1, 2")

	refused := func(why string) {
		_, err = b.underFence("t")
		fault, ok := migration.AsFault(err)
		require.True(t, ok, "%v", err)
		require.Equal(t, migration.FaultNotReady, fault.Kind)
		require.Contains(t, fault.Message, why)
	}
	b.change("other", func(t *ledger.Table) { t.Target = to("public", "u") })
	refused("rows of other tables")
	b.change("other", func(t *ledger.Table) { t.Target = t.Name })
	b.change("t", func(t *ledger.Table) { t.Keep = true })
	refused("keeps rows")
	require.Equal(t, "800", b.target.Query(t, "select count(*) from u")[0][0], "nothing of it was touched")
}

func TestWhatWasThereBeforeIsEmptiedOnlyIfItWasEmpty(t *testing.T) {
	t.Parallel()
	ddl := `create table made (id int primary key, v text); create table found (id int primary key, v text);
		create table child (id int primary key references found); create table mixed (id int primary key, v text)`
	b := newBench(t, ddl)
	b.source.Exec(t, `insert into made select g, 's' from generate_series(1, 10) g; insert into found select g, 's' from generate_series(1, 10) g;
		insert into mixed select g, 's' from generate_series(1, 10) g`)
	b.target.Exec(t, `create table theirs (id int); insert into theirs values (1); insert into mixed values (1, 'theirs');
		delete from dts_sync.object where name in ('found', 'mixed', 'child', 'theirs')`)
	b.config.Spec.Conflict = migration.ConflictIgnore
	b.plan()
	b.change("found", func(t *ledger.Table) { t.Keep, t.WasEmpty = false, true })
	b.change("child", func(t *ledger.Table) { t.Keep, t.WasEmpty = false, true })
	require.NoError(t, b.book.MayRestart(t.Context()), "nothing is copied")
	b.copy(1)

	again := b.lane("again")
	before := pgtest.Hashes(t, b.target)
	fault, ok := migration.AsFault(b.book.Restart(t.Context(), again, true, quiet))
	require.True(t, ok)
	require.Equal(t, migration.FaultDrift, fault.Kind)
	require.Contains(t, fault.Object, "public.mixed")
	require.Contains(t, fault.Hint, "release")
	require.Equal(t, before, pgtest.Hashes(t, b.target), "refused before anything was emptied")

	b.target.Exec(t, "truncate mixed")
	require.NoError(t, b.book.Restart(t.Context(), again, true, quiet))
	for table, rows := range map[string]string{"made": "0", "found": "0", "mixed": "0", "theirs": "1"} {
		require.Equal(t, rows, b.target.Query(t, "select count(*) from "+table)[0][0], table)
	}
	require.Empty(t, b.kept())
	require.Equal(t, "0", b.target.Query(t, "select count(*) from dts_sync.tbl")[0][0])
}

// A value that moves from one row to another is twice in the union of two snapshots, and once in each of them.
func TestUniqueIndexOfTheTargetMeetsOneSnapshot(t *testing.T) {
	t.Parallel()
	ddl := "create table t (id int primary key, seat int unique, pad text)"
	b := newMappedBench(t, ddl, ddl)
	b.source.Exec(t, "insert into t select g, g, repeat('x', 300) from generate_series(1, 4000) g; update t set seat = null where id = 1")
	b.config.ChunkBytes = 0
	require.Equal(t, 1, b.plan().Chunks)
	b.change("t", func(t *ledger.Table) { t.Existing, t.WasEmpty, t.Mode = true, true, migration.ModeOneSnapshot })
	ctx, stop := context.WithCancel(t.Context())
	conn := b.source.Conn(t)
	var writers errgroup.Group
	writers.Go(func() error {
		for i := 0; ctx.Err() == nil; i++ { // somebody moves to the free seat
			from, free := i*7919%4000+1, 0
			err := conn.QueryRow(t.Context(), "select s from generate_series(1, 4000) s where not exists (select from t where seat = s) limit 1").Scan(&free)
			if err == nil {
				_, err = conn.Exec(t.Context(), "update t set seat = $2 where id = $1 and seat is not null", from, free)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	b.copy(1)
	stop()
	require.NoError(t, writers.Wait())
	require.Equal(t, [][]string{{"4000", "3999"}}, b.target.Query(t, "select count(*), count(distinct seat) from t"))
	require.Equal(t, "1", b.target.Query(t, "select attempts from dts_sync.chunk")[0][0])
}

func TestTablesThatAreNotCopiedAreExactAtOnce(t *testing.T) {
	t.Parallel()
	for _, types := range [][]migration.Type{{migration.TypeIncremental}, {migration.TypeSchema, migration.TypeIncremental}} {
		b := newBench(t, `create table t (a int primary key); create table root (a int primary key) partition by list (a);
			create table leaf partition of root default`)
		b.source.Exec(t, "insert into t select generate_series(1, 100); analyze")
		b.target.Exec(t, "insert into t values (1)")
		b.config.Spec.Types = types
		require.Equal(t, bulk.Planned{Tables: 2, Lanes: 1}, b.plan())
		require.Equal(t, [][]string{{"3", "0"}}, b.target.Query(t, "select count(*) filter (where stage = 'exact'), (select count(*) from dts_sync.chunk) from dts_sync.tbl"))
		b.copy(1)
		require.Equal(t, "1", b.target.Query(t, "select count(*) from t")[0][0])
	}
}
