package apply_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Short ways to plan a table.

func to(name string) func(*mapping.Table) {
	return func(t *mapping.Table) {
		t.Target.Schema, t.Target.Name, _ = strings.Cut(name, ".")
	}
}

func renamed(from, to string) func(*mapping.Table) {
	return func(t *mapping.Table) {
		for i := range t.Into {
			if t.Into[i].Source == from {
				t.Into[i].Name = to
			}
		}
		for i := range t.TargetKey {
			if t.TargetKey[i] == from {
				t.TargetKey[i] = to
			}
		}
	}
}

func without(source string) func(*mapping.Table) {
	return func(t *mapping.Table) {
		t.Into = slices.DeleteFunc(t.Into, func(c mapping.Column) bool { return c.Source == source })
	}
}

// set computes a column of the target; one that takes no column of the source is added.
func set(name, sql string, reads ...string) func(*mapping.Table) {
	return func(t *mapping.Table) {
		stamp := strings.Contains(sql, "now()")
		for i := range t.Into {
			if t.Into[i].Name == name {
				t.Into[i].Set, t.Into[i].Reads, t.Into[i].Stamp = sql, reads, stamp
				return
			}
		}
		t.Into = append(t.Into, mapping.Column{Name: name, Set: sql, Reads: reads, Stamp: stamp})
	}
}

func where(sql string) func(*mapping.Table)  { return func(t *mapping.Table) { t.Where = sql } }
func dropIf(sql string) func(*mapping.Table) { return func(t *mapping.Table) { t.DropIf = sql } }

func merged(constant string) func(*mapping.Table) {
	return func(t *mapping.Table) {
		set("src", constant)(t)
		t.Merged, t.Existing = true, true
		t.TargetKey = append(t.TargetKey, "src")
	}
}

func keep(t *mapping.Table) { t.Keep, t.Existing = true, true }

func operations(names ...migration.Operation) func(*mapping.Table) {
	return func(t *mapping.Table) { t.Operations = names }
}

// planned applies what was said of each table by its name on the source.
func planned(all map[string][]func(*mapping.Table)) func(*mapping.Table) {
	return func(t *mapping.Table) {
		for _, change := range all[t.Name.Name] {
			change(t)
		}
	}
}

type plans = map[string][]func(*mapping.Table)

// mapped is a script that runs on the source. What the query gives there must be what the other one gives on the target.
type mapped struct {
	name, source, target string
	plans                plans
	sql, want, got       string
}

var mappings = []mapped{
	{
		"schema, table and columns renamed",
		"create schema app; create table app.a (id int primary key, v text, big text); alter table app.a alter big set storage external",
		"create schema shop; create table shop.b (num int primary key, v2 text, big text)",
		plans{"a": {to("shop.b"), renamed("id", "num"), renamed("v", "v2")}},
		`insert into app.a values (1, 'a', repeat('x', 9000)), (2, 'b', null), (3, 'c', 'short'); update app.a set v = 'z' where id = 1; update app.a set id = 9 where id = 1; delete from app.a where id = 2;
		truncate app.a; insert into app.a values (5, 'e', repeat('y', 9000)), (6, 'f', ''); update app.a set v = v || '!'`,
		"select * from app.a order by 1", "select * from shop.b order by 1",
	},
	{
		"columns left out, among them a toasted one and a generated one",
		"create table a (id int primary key, secret text, g int generated always as (n + 1) stored, n int, v text); alter table a alter secret set storage external",
		"create table a (v text, id int primary key, n int, mine text default 'd')",
		plans{"a": {without("secret")}},
		"insert into a (id, secret, n, v) values (1, repeat('x', 9000), 1, 'a'), (2, null, 2, 'b'); update a set n = n + 1; update a set id = 7 where id = 1; update a set secret = 'new'; delete from a where id = 2",
		"select id, n, v, 'd' from a order by 1", "select id, n, v, mine from a order by 1",
	},
	{
		"rows enter and leave a filter, full identity, unchanged toast",
		"create table a (id int primary key, n int, big text); alter table a alter big set storage external; alter table a replica identity full",
		"create table a (id int primary key, n int, big text)",
		plans{"a": {where("n > 10")}},
		`insert into a select i, i, repeat('x', 9000) from generate_series(1, 20) i; update a set n = n + 5; update a set n = 30 where id = 1; update a set n = 0 where id = 1; update a set n = 40 where id = 1;
		update a set id = 101, n = 3 where id = 20; update a set id = 102, n = 33 where id = 2; update a set id = 103 where id = 3; update a set n = 50 where id = 103; delete from a where id in (1, 4); begin; update a set n = 99 where id = 5; delete from a where id = 5; insert into a values (5, 12, 'again'); commit`,
		"select * from a where n > 10 order by 1", "select * from a order by 1",
	},
	{
		"filter without toast needs no full identity",
		"create table a (id int primary key, n int, flag bool)",
		"create table a (id int primary key, n int)",
		plans{"a": {where("flag"), without("flag")}},
		"insert into a values (1, 1, true), (2, 2, false), (3, 3, null); update a set flag = not flag; update a set n = n + 1; update a set id = id + 10; update a set flag = true where id = 13; update a set flag = null where id = 12; delete from a where id = 11",
		"select id, n from a where flag order by 1", "select * from a order by 1",
	},
	{
		"a dropIf that is null keeps",
		"create table a (id int primary key, v text); alter table a replica identity full",
		"create table a (id int primary key, v text)",
		plans{"a": {dropIf("v = 'drop' -- why")}},
		"insert into a values (1, 'drop'), (2, null), (3, 'x'); update a set v = 'drop' where id = 3; update a set v = null where id = 1; insert into a values (4, 'drop'), (5, 'y')",
		"select * from a where (v = 'drop') is not true order by 1", "select * from a order by 1",
	},
	{
		"where and dropIf together, with names that need quotes, and those of statements",
		`create table "Or""der" ("the n" int primary key, "V" int, x int, t int)`,
		`create table "Or""der" ("the n" int primary key, "V" int, x int, t int)`,
		plans{`Or"der`: {where(`"V" > 1`), dropIf(`x = t`)}},
		`insert into "Or""der" values (1, 1, 1, 2), (2, 2, 1, 2), (3, 3, 3, 3); update "Or""der" set "V" = "V" + 1; update "Or""der" set t = x where "the n" = 1; update "Or""der" set t = 9 where "the n" = 3`,
		`select * from "Or""der" where "V" > 1 and x <> t order by 1`, `select * from "Or""der" order by 1`,
	},
	{
		"columns set and added",
		"create type mood as enum ('sad', 'ok'); create table a (id int primary key, v text, price numeric, m mood, big text, d date); alter table a alter big set storage external; alter table a replica identity full",
		"create schema types; create type types.mood as enum ('sad', 'ok'); create table a (id int primary key, v varchar(50), price text, m types.mood, big text, len int, at timestamptz, d date, year int)",
		plans{"a": {
			set("v", "upper(v) || coalesce(m::text, '?')", "v", "m"), set("price", "'EUR ' || round(price, 1)", "price"), set("len", "length(big)", "big"),
			set("at", "now()"), set("year", "extract(year from d)", "d"),
		}},
		"insert into a values (1, 'a', 1.25, 'sad', repeat('x', 3000), '2020-02-03'), (2, 'b', null, null, null, null); update a set m = 'ok'; update a set price = 7 where id = 2; update a set id = 5 where id = 1; update a set v = 'z', d = 'infinity' where id = 2 and false; delete from a where id = 2",
		"select id, upper(v) || m, 'EUR ' || round(price, 1), m, big, length(big), true, d, 2020 from a order by 1",
		"select id, v, price, m, big, len, at between now() - interval '1 hour' and now(), d, year from a order by 1",
	},
	{
		"a set column beside unchanged toast that nothing reads",
		"create table a (id int primary key, n int, big text, title text); alter table a alter big set storage external, alter title set storage external",
		"create table a (id int primary key, n int, big text, title text, len int)",
		plans{"a": {set("n", "n * 10", "n"), set("len", "length(title)", "title")}},
		"insert into a values (1, 1, repeat('x', 9000), repeat('t', 3000)), (2, 2, repeat('y', 9000), 'short'); update a set n = n + 1; update a set id = 3 where id = 1; update a set title = repeat('u', 4000) where id = 3; begin; update a set n = 50; update a set big = 'b' where id = 2; commit",
		"select id, n * 10, big, title, length(title) from a order by 1", "select * from a order by 1",
	},
	{
		"a key that is set, and one that is added",
		"create table a (id int primary key, v text); create table b (x int, y text, v text, primary key (x, y))",
		"create table a (id bigint primary key, v text); create table b (x int, y text, v text, part text, primary key (x, y, part))",
		plans{
			"a": {set("id", "id::int8 + 5000000000", "id")},
			"b": {set("y", "x || y", "x", "y"), set("part", "'p' || (x % 2)", "x"), func(t *mapping.Table) { t.TargetKey = []string{"x", "y", "part"} }},
		},
		"insert into a values (1, 'a'), (2, 'b'), (3, 'c'); update a set v = v || '!'; update a set id = 10 where id = 1; delete from a where id = 2; insert into b values (1, 'a', 'v'), (2, 'b', 'w'), (3, 'c', 'x'); update b set v = 'z'; update b set x = 4 where x = 1; delete from b where x = 3",
		"select id::int8 + 5000000000, v, null, null from a union all select x, x || y, v, 'p' || (x % 2) from b order by 1, 2",
		"select id, v, null, null from a union all select x, y, v, part from b order by 1, 2",
	},
	{
		"two sources with the same keys in one table",
		"create schema eu; create schema us; create table eu.a (id int primary key, v text, big text); create table us.b (id int primary key, v text, big text); alter table eu.a alter big set storage external; alter table us.b alter big set storage external",
		"create table everyone (id int, v text, big text, src text, primary key (id, src)); insert into everyone values (1, 'other', null, 'asia')",
		plans{"a": {to("public.everyone"), merged("'eu'")}, "b": {to("public.everyone"), merged("'us'")}},
		`insert into eu.a values (1, 'a', repeat('x', 9000)), (2, 'b', null); insert into us.b values (1, 'c', repeat('y', 9000)), (3, 'd', null); update eu.a set v = 'e'; update us.b set v = 'f' where id = 1; update eu.a set id = 3 where id = 1; delete from us.b where id = 3;
		delete from eu.a where id = 2; truncate us.b; insert into us.b values (3, 'g', 'h')`,
		"select *, 'eu' from eu.a union all select *, 'us' from us.b union all values (1, 'other', null, 'asia') order by 1, 4", "select * from everyone order by 1, 4",
	},
	{
		"two sources without common keys in one table",
		"create table a (id int primary key, v text); create table b (id int primary key, v text)",
		"create table c (id int primary key, v text)",
		plans{"a": {to("public.c"), func(t *mapping.Table) { t.Merged = true }}, "b": {to("public.c"), func(t *mapping.Table) { t.Merged = true }}},
		"insert into a values (1, 'a'), (2, 'b'); insert into b values (11, 'c'), (12, 'd'); begin; update a set v = 'x'; delete from b where id = 11; update b set id = 13; update a set id = 3 where id = 1; commit",
		"select * from a union all select * from b order by 1", "select * from c order by 1",
	},
	{
		"identity columns that cannot be set, under a filter and expressions",
		"create table a (id int generated always as identity primary key, n int); create table b (k text primary key, id int generated always as identity, n int)",
		"create table a2 (id int generated always as identity primary key, n int); create table b (k text primary key, id int generated always as identity, n int)",
		plans{"a": {to("public.a2"), where("n > 0"), set("n", "-n", "n")}, "b": {where("n > 0"), set("n", "-n", "n")}},
		"insert into a (n) values (1), (0), (2); update a set n = n + 1; update a set id = default where id = 1; update a set n = 0 where id = 3; insert into b (k, n) values ('a', 1), ('b', 0), ('c', 2); update b set id = default; update b set n = 1 where k = 'b'; update b set k = 'd' where k = 'a'; update b set n = 0 where k = 'c'",
		"select null, id, -n from a where n > 0 union all select k, id, -n from b where n > 0 order by 1, 2", "select null, id, n from a2 union all select * from b order by 1, 2",
	},
	{
		"rows without a key, under a filter and expressions",
		"create table a (x int, flag bool, big text); alter table a alter big set storage external; alter table a replica identity full; create table b (x int, v text)",
		"create table a (x int, big text, at timestamptz); create table b (x int, v text)",
		plans{"a": {without("flag"), where("flag"), set("x", "x + 1", "x"), set("at", "now()")}, "b": {where("v is not null"), set("v", "v || x", "v", "x")}},
		`insert into a values (1, true, 'b'), (1, false, 'b'), (1, true, 'b'), (2, null, null), (3, true, null); delete from a where not flag; update a set flag = true where flag is null; update a set big = repeat('x', 9000) where x = 1; update a set flag = false where ctid = (select min(ctid) from a where x = 1);
		update a set flag = true where x = 1; delete from a where ctid = (select min(ctid) from a where x = 1); insert into b values (1, 'a'), (2, null), (1, 'a')`,
		"select x + 1, big, true from a where flag union all select x, v || x, true from b where v is not null order by 1, 2", "select x, big, at is not null from a union all select x, v, true from b order by 1, 2",
	},
	{
		"keys that fold by no text, under a filter",
		"create table a (k interval primary key, n int); create table b (k numeric primary key, n int)",
		"create table a (k interval primary key, n int); create table b (k numeric primary key, n int)",
		plans{"a": {where("n > 0")}, "b": {where("n > 0")}},
		"insert into a values ('1 day', 1), ('48 hours', 0); update a set k = '24 hours' where k = '1 day'; update a set n = 1 where n = 0; update a set k = '2 days' where k = '48 hours'; insert into b values (1.0, 1), (2.00, 0); begin; update b set k = 1.00 where k = 1; update b set n = 5 where k = 2; update b set k = 2.0 where k = 2; commit",
		"select k::text, n from a where n > 0 union all select k::text, n from b where n > 0 order by 1", "select k::text, n from a union all select k::text, n from b order by 1",
	},
}

func TestMappedTablesHoldWhatWasPromised(t *testing.T) {
	t.Parallel()
	for _, m := range mappings {
		for name, size := range map[string]int{" one by one": 1, " at once": 0} {
			t.Run(m.name+name, func(t *testing.T) {
				t.Parallel()
				runMapping(t, m, pgtest.Shared(t), pgtest.Shared(t), size)
			})
		}
	}
}

func TestMappedTablesHoldWhatWasPromisedBetweenVersions(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]int{{10, 18}, {18, 10}} {
		t.Run(fmt.Sprint(pair[0], " to ", pair[1]), func(t *testing.T) {
			t.Parallel()
			from, to := pgtest.Server(t, pgtest.Major(pair[0])), pgtest.Server(t, pgtest.Major(pair[1]))
			for _, m := range mappings {
				if pair[0] < 12 && (strings.Contains(m.sql, "truncate") || strings.Contains(m.source, "stored")) {
					continue // the stream of 10 has no truncation, and it has no generated columns
				}
				t.Run(m.name, func(t *testing.T) { runMapping(t, m, from, to, 0) })
			}
		})
	}
}

func runMapping(t *testing.T, m mapped, from, to *pgserver.Server, size int) {
	t.Helper()
	r := newMapped(t, from, to, m.source, m.target, planned(m.plans))
	r.script(m.sql)
	r.drain(size)
	r.mustShow(m.want, m.got)
	r.mustHaveNoConflict()
}

// mustShow compares what a query gives on the source with what another one gives on the target.
func (r *rig) mustShow(want, got string) {
	r.t.Helper()
	source, target := fmt.Sprint(r.source.Query(r.t, want)), fmt.Sprint(r.target.Query(r.t, got))
	if source != target {
		r.t.Fatalf("target has\n%.3000s, want\n%.3000s", target, source)
	}
}
