package apply_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const toasted = "create table a (id int primary key, n int, big text); alter table a alter big set storage external"

// newShared is newMapped on the shared server.
func newShared(t testing.TB, source, target string, all plans) *rig {
	t.Helper()
	return newMapped(t, pgtest.Shared(t), pgtest.Shared(t), source, target, planned(all))
}

// mustHold compares rows of the target with text.
func (r *rig) mustHold(sql string, rows ...string) {
	r.t.Helper()
	var found []string
	for _, row := range r.target.Query(r.t, sql) {
		found = append(found, strings.Join(row, " "))
	}
	if !slices.Equal(found, rows) {
		r.t.Fatalf("%s: %q, want %q", sql, found, rows)
	}
}

// kept makes a target that had rows 1 to 6 when the copy came, of which the source has 1 to 5.
func kept(t *testing.T, plans ...func(*mapping.Table)) *rig {
	t.Helper()
	r := newShared(t, toasted, toasted, map[string][]func(*mapping.Table){"a": append([]func(*mapping.Table){keep}, plans...)})
	r.script("insert into a select i, i, repeat('s', 3000) from generate_series(1, 5) i")
	r.drain(0)
	r.target.Exec(t, "update a set n = -id, big = 'target'; insert into a values (6, -6, 'target')")
	r.target.Exec(t, "insert into dts_sync.kept (migration, relid, key) select migration, relid, '(' || i || ')' from dts_sync.tbl, generate_series(1, 5) i")
	r.start()
	return r
}

const marks = "select key from dts_sync.kept order by 1"

func TestKeptRowIsTheSourcesOnceTheSourceChangesIt(t *testing.T) {
	t.Parallel()
	r := kept(t)
	r.script("update a set n = 10 where id = 1; update a set big = 'new' where id = 2; delete from a where id = 3; update a set id = 7, n = 70 where id = 4; insert into a values (6, 60, 'source')")
	r.drain(0)
	r.mustHold("select id, n, left(big, 6) from a order by id", "1 10 ssssss", "2 2 new", "5 -5 target", "6 60 source", "7 70 ssssss")
	r.mustHold(marks, "(5)")
	r.script("update a set n = 11 where id = 1; update a set id = 5000 where id = 5; begin; insert into a values (8, 1, repeat('s', 3000)); update a set n = 2 where id = 8; commit")
	r.drain(1)
	r.mustEqual()
	r.mustHold(marks)
}

func TestKeptRowIsReadAgainOnlyWhereValuesAreMissing(t *testing.T) {
	t.Parallel()
	r := kept(t)
	r.source.Exec(t, "alter table a replica identity full")
	r.script("update a set n = n + 1 where id < 3")
	r.drain(0)
	r.mustHold("select id, n, left(big, 6) from a order by id", "1 2 ssssss", "2 3 ssssss", "3 -3 target", "4 -4 target", "5 -5 target", "6 -6 target")
	if high := pgtest.Value[string](t, r.target, "select coalesce(hi_lsn::text, '') || extra::text from dts_sync.tbl"); high != "{}" {
		t.Fatalf("the source was asked: %s", high)
	}
	r.source.Exec(t, "alter table a replica identity default")
	r.script("update a set n = 9 where id = 3")
	r.drain(0)
	if high := pgtest.Value[string](t, r.target, "select coalesce(hi_lsn::text, '') from dts_sync.tbl"); high == "" {
		t.Fatal("the source was not asked")
	}
	r.mustHold("select id, n, left(big, 6) from a where id = 3", "3 9 ssssss")
	r.mustHold(marks, "(4)", "(5)")
}

func TestKeptRowStaysWhereNothingMayChangeIt(t *testing.T) {
	t.Parallel()
	r := kept(t, operations(migration.OperationInsert))
	r.script("update a set n = 10 where id = 1; delete from a where id = 2; truncate a; insert into a values (3, 30, 'source')")
	r.drain(0)
	r.mustHold("select id, n, big from a order by id", "1 -1 target", "2 -2 target", "3 30 source", "4 -4 target", "5 -5 target", "6 -6 target")
	r.mustHold(marks, "(1)", "(2)", "(4)", "(5)")
}

// mixed has a merge with a constant in the key, one without, and a table that keeps rows.
func mixed(t *testing.T) *rig {
	t.Helper()
	const ddl = "create table a (id int primary key); create table b (id int primary key); create table c (id int primary key); create table k (id int primary key); create table plain (id int primary key)"
	r := newShared(t, ddl, "create table a (id int, src text, primary key (id, src)); create table c (id int primary key); create table k (id int primary key); create table plain (id int primary key);"+
		"insert into a values (1, 'other')", plans{
		"a": {merged("'a'")}, "b": {to("public.a"), merged("'b'")}, "c": {func(t *mapping.Table) { t.Merged = true }}, "k": {keep},
	})
	for _, table := range []string{"a", "b", "c", "k", "plain"} {
		r.script("insert into " + table + " values (1), (2)")
	}
	r.drain(0)
	return r
}

func TestTruncateTakesOnlyTheRowsOfItsSourceOutOfAMerge(t *testing.T) {
	t.Parallel()
	r := mixed(t)
	r.script("begin; truncate a, plain; insert into a values (9); insert into plain values (9); commit")
	r.drain(0)
	r.mustHold("select * from a order by 1, 2", "1 b", "1 other", "2 b", "9 a")
	r.mustHold("select * from plain", "9")
	if n := pgtest.Value[int64](t, r.target, "select sum(truncates)::int8 from dts_sync.tbl"); n != 2 {
		t.Fatalf("%d truncations counted", n)
	}
}

func TestTruncateAsksWhereNothingTellsTheRowsApart(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"c", "k"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			r := mixed(t)
			r.script("insert into plain values (3); truncate " + table + "; insert into " + table + " values (7)")
			fault := mustFault(t, r.tryDrain(1), migration.FaultDrift)
			if !strings.Contains(fault.Message, "truncated it") || !strings.Contains(fault.Hint, "resume") {
				t.Fatalf("fault is %v, hint %q", fault, fault.Hint)
			}
			r.mustHold("select * from "+table+" order by 1", "1", "2")
			r.target.Exec(t, "delete from "+table)
			_, settle, _ := strings.Cut(fault.Hint, "is done: ")
			r.target.Exec(t, strings.TrimSuffix(settle, "; then resume"))
			r.start()
			r.drain(0)
			r.mustHold("select * from "+table, "7")
			r.script("truncate " + table) // the next one asks again
			mustFail(t, r.tryDrain(0), migration.FaultDrift)
		})
	}
}

func TestInsertsOffNeverInsertsWhateverUpdatesMeet(t *testing.T) {
	t.Parallel()
	r := newShared(t, toasted, toasted, plans{"a": {operations(migration.OperationUpdate, migration.OperationDelete)}})
	r.target.Exec(t, "insert into a values (1, 0, 'one'), (2, 0, 'two'), (5, 0, 'left over')")
	r.script("insert into a values (1, 1, repeat('x', 3000)), (2, 1, repeat('x', 3000)), (3, 1, repeat('x', 3000)); update a set n = 2 where id = 1; update a set n = 2 where id = 3; update a set id = 5 where id = 2; update a set id = 6 where id = 3; update a set n = 3, big = 'b' where id = 6; truncate a")
	r.drain(0)
	r.mustHold("select * from a order by 1", "1 2 one", "5 1 two")
	r.mustHaveNoConflict()
}

func TestDeletesOffLeavesRowsThatGiveWayToNewOnes(t *testing.T) {
	t.Parallel()
	r := newShared(t, toasted, toasted, plans{"a": {operations(migration.OperationInsert, migration.OperationUpdate, migration.OperationTruncate)}})
	r.script("insert into a values (1, 1, repeat('x', 3000)), (2, 2, 'b'), (3, 3, 'c'); delete from a where id in (2, 3); insert into a values (3, 4, 'd'); update a set id = 2 where id = 1")
	r.drain(0)
	r.mustHold("select id, n, left(big, 1) from a order by 1", "2 1 x", "3 4 d")
	r.mustHaveNoConflict()
	r.script("delete from a; truncate a; insert into a values (9, 9, 'z')")
	r.drain(0)
	r.mustHold("select * from a", "9 9 z")
}

// What the copy may have brought follows the source whatever operations say: the copy is that of one moment.
func TestOperationsBeginWhereTheCopyEnds(t *testing.T) {
	t.Parallel()
	r := newShared(t, toasted, toasted, plans{"a": {operations(migration.OperationUpdate)}})
	ctx := t.Context()
	r.script("insert into a values (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')")
	from, to := r.source.Conn(t), r.target.Conn(t)
	least, _, err := r.chunk(ctx, from, to, "a", "id < 3")
	must(t, err)
	r.script("delete from a where id = 1; insert into a values (0, 0, 'z'); update a set id = 4 where id = 3")
	greatest, high, err := r.chunk(ctx, from, to, "a", "id >= 3")
	must(t, err)
	r.target.Exec(t, "update dts_sync.tbl set stage = 'band', smin = $1, smax = $2, hi_lsn = $3::text::pg_lsn", least.String(), greatest.String(), high.String())
	r.script("delete from a where id = 2; insert into a values (7, 7, 'x'); update a set n = n + 10")
	r.drain(0)
	r.mustHold("select * from a order by 1", "0 10 z", "2 2 b", "4 13 c")
}

func TestFilterNamesTheStatementWhenTheIdentityIsTakenAway(t *testing.T) {
	t.Parallel()
	for name, plan := range map[string]func(*mapping.Table){
		"filter": where("n > 0"), "expression": set("big", "n || big", "n", "big"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newShared(t, toasted+"; alter table a replica identity full", toasted, plans{"a": {plan}})
			r.script("insert into a values (1, 1, repeat('x', 3000)); update a set n = 2")
			r.drain(0)
			r.script("alter table a replica identity default; update a set big = 'b'")
			r.drain(0) // nothing is missing
			r.script("update a set big = repeat('y', 3000); update a set n = 3")
			fault := mustFault(t, r.tryDrain(0), migration.FaultDrift)
			if !strings.Contains(fault.Hint, `alter table "public"."a" replica identity full`) {
				t.Fatalf("fault is %v, hint %q", fault, fault.Hint)
			}
		})
	}
}

func TestColumnsThatNobodyNeedsMayComeAndGo(t *testing.T) {
	t.Parallel()
	const ddl = "create table a (id int primary key, v text, x int, y int, flag bool)"
	r := newShared(t, ddl, "create table a (num int primary key, v text)", plans{
		"a": {renamed("id", "num"), without("x"), without("y"), without("flag"), where("flag")},
	})
	r.script("insert into a values (1, 'a', 1, 1, true); alter table a drop column x; insert into a values (2, 'b', 2, true); alter table a add column z int default 5; update a set v = v || '!'; alter table a alter y type text; insert into a values (3, 'c', 'y', true, 7)")
	r.drain(0)
	r.mustHold("select * from a order by 1", "1 a!", "2 b!", "3 c")
	for alter, says := range map[string]string{
		"alter table a rename v to w":       `column "v" renamed to "w"`,
		"alter table a rename flag to flaw": `column "flag", which the definition reads, was renamed to "flaw"`,
	} {
		t.Run(alter, func(t *testing.T) {
			t.Parallel()
			r := newShared(t, ddl, "create table a (num int primary key, v text)", plans{
				"a": {renamed("id", "num"), without("x"), without("y"), without("flag"), where("flag")},
			})
			r.script(alter + "; insert into a values (4, 'd')")
			if fault := mustFault(t, r.tryDrain(0), migration.FaultDrift); !strings.Contains(fault.Message, says) {
				t.Fatalf("fault is %v", fault)
			}
		})
	}
}

func TestFaultsNameTheTargetsThingsAsTheTargetDoes(t *testing.T) {
	t.Parallel()
	r := newShared(t, "create table a (id int primary key, v text)", "create table b (num int primary key, w text)", plans{
		"a": {to("public.b"), renamed("id", "num"), renamed("v", "w")},
	})
	r.script("insert into a values (1, 'a')")
	r.drain(0)
	r.script("alter table a alter v type varchar(5); insert into a values (2, 'b')")
	fault := mustFault(t, r.tryDrain(0), migration.FaultDrift)
	if fault.Object != "public.a" || !strings.Contains(fault.Message, `type of column "v" changed`) || !strings.Contains(fault.Hint, `alter table "public"."b" alter column "w" type character varying(5)`) {
		t.Fatalf("fault is %v, hint %q", fault, fault.Hint)
	}
	r.target.Exec(t, `alter table "public"."b" alter column "w" type character varying(5)`)
	r.start()
	r.drain(0)
	r.script("alter table a drop column v; insert into a values (3)")
	if fault := mustFault(t, r.tryDrain(0), migration.FaultDrift); !strings.Contains(fault.Hint, `alter table "public"."b" drop column "w"`) {
		t.Fatalf("hint is %q", fault.Hint)
	}
	r.target.Exec(t, "drop table b")
	r.start()
	if fault := mustFault(t, r.tryDrain(0), migration.FaultDrift); !strings.Contains(fault.Message, "public.b") {
		t.Fatalf("fault is %v", fault)
	}
}

// A type of the user that only an expression reads has the name that the definition gives its schema.
func TestExpressionsReadTypesUnderTheirNamesOnTheTarget(t *testing.T) {
	t.Parallel()
	r := newShared(t, "create schema app; create type app.mood as enum ('sad', 'ok'); create table app.a (id int primary key, m app.mood, all_m app.mood[])",
		"create schema shop; create type shop.mood as enum ('sad', 'ok'); create table shop.a (id int primary key)",
		plans{"a": {to("shop.a"), without("m"), without("all_m"), where("m > 'sad'::app.mood and 'ok' = any (all_m)")}})
	r.spec.Objects = []migration.Object{{Schema: "app", Rename: "shop"}}
	r.script("insert into app.a values (1, 'sad', '{ok}'), (2, 'ok', '{sad,ok}'), (3, null, null), (4, 'ok', '{}')")
	r.drain(0)
	r.mustHold("select * from shop.a", "2")
	r.target.Exec(t, "drop type shop.mood")
	r.start()
	r.script("update app.a set m = 'ok'")
	if fault := mustFault(t, r.tryDrain(0), migration.FaultDrift); !strings.Contains(fault.Message, "no type app.mood") {
		t.Fatalf("fault is %v", fault)
	}
}

func TestPartitionMadeLaterFollowsItsRootsMapping(t *testing.T) {
	t.Parallel()
	r := newShared(t, "create schema app; create table app.a (k int primary key, v text) partition by range (k); create table app.a1 partition of app.a for values from (0) to (10)",
		"create schema shop; create table shop.a (k int primary key, v text) partition by range (k); create table shop.a1 partition of shop.a for values from (0) to (10)",
		plans{"a": {to("shop.a"), where("k <> 12")}, "a1": {to("shop.a1"), where("k <> 12")}})
	r.spec.Objects = []migration.Object{{Schema: "app", Rename: "shop"}, {Table: "app.a", Where: "k <> 12"}}
	r.source.Exec(t, "alter publication "+r.spec.ID.Publication()+" set table app.a")
	r.script("insert into app.a values (1, 'a')")
	r.drain(0)
	r.script("create table app.a2 partition of app.a for values from (10) to (20); insert into app.a values (11, 'b'), (12, 'out'), (2, 'c'); update app.a set v = 'd'; update app.a set k = 13 where k = 1")
	fault := mustFault(t, r.tryDrain(0), migration.FaultDrift)
	if !strings.Contains(fault.Hint, `create table "shop"."a2" partition of "shop"."a" FOR VALUES FROM (10) TO (20)`) {
		t.Fatalf("hint is %q", fault.Hint)
	}
	r.target.Exec(t, "create table shop.a2 partition of shop.a for values from (10) to (20)")
	r.start()
	r.drain(0)
	r.mustShow("select * from app.a where k <> 12 order by 1", "select * from shop.a order by 1")
	r.script("truncate app.a2")
	r.drain(0)
	r.mustShow("select * from app.a where k <> 12 order by 1", "select * from shop.a order by 1")
}

// Mapped tables of every kind are copied in chunks while they change.
func TestRandomWritersDuringTheCopyOfMappedTables(t *testing.T) {
	t.Parallel()
	const renamedTables = `
create table t2 (k text collate "und-x-icu" primary key, n int, big text, len int);
create table n2 (k numeric primary key, id int, v int, big text);
create table f (k int primary key, v text, big text);
create table d (x int, v int)`
	columns := map[string]string{
		"t": "k, -n, big, length(big) from t where u > 100", "n": "k, id, v, big from n", "f": "k, v || 'x', big from f where v % 2 = 0", "d": "x + 1, v from d where v > 0",
	}
	r := newShared(t, bandTables+"; alter table t replica identity full", renamedTables, plans{
		"t": {to("public.t2"), without("u"), where("u > 100"), set("n", "-n", "n"), set("len", "length(big)", "big")},
		"n": {to("public.n2")}, "f": {set("v", "v || 'x'", "v"), dropIf("v % 2 = 1")}, "d": {set("x", "x + 1", "x"), where("v > 0")},
	})
	names := map[string]string{"t": "t2", "n": "n2", "f": "f", "d": "d"}
	random := rand.New(rand.NewPCG(11, 0))
	writers, stop := context.WithCancelCause(t.Context())
	var group errgroup.Group
	for i := range uint64(3) {
		w := &writer{rand.New(rand.NewPCG(11, i+1)), r.source.Conn(t), fmt.Sprintf("%s_%d", r.source.Name, i)}
		for n := range 60 {
			must(t, w.transaction(t.Context(), n))
		}
		group.Go(func() error {
			for n := 100; writers.Err() == nil; n++ {
				if err := w.transaction(context.WithoutCancel(writers), n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	copies, ctx := errgroup.WithContext(t.Context())
	for table, where := range map[string][]string{
		"t": ranges("b", "B-10", "c", "d-05", "é"), "n": ranges("10", "25.00", "50", "75"), "f": ranges("20", "50", "80"), "d": {"true"},
	} {
		order := rand.New(rand.NewPCG(11, random.Uint64()))
		copies.Go(func() error {
			return r.copyMapped(ctx, order, table, names[table], columns[table], where)
		})
	}
	must(t, copies.Wait())
	r.start()
	for range 3 {
		must(t, r.follow(1+random.IntN(40)))
		r.confirm()
	}
	stop(errEnough)
	must(t, group.Wait())
	r.start()
	r.drain(0)
	r.drain(0)
	for table, what := range columns {
		r.mustShow("select "+what+` order by 1, 2`, "select * from "+names[table]+` order by 1, 2`)
	}
}
