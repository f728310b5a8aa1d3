package precheck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func where(table, condition string) func(*migration.Spec) {
	return func(s *migration.Spec) {
		s.Objects, s.EverythingElse = []migration.Object{{Table: table, Where: condition}}, migration.IncludeElse
		s.Identity = migration.IdentitySetFull
	}
}

func transform(rule migration.Transform) func(*migration.Spec) {
	return func(s *migration.Spec) {
		rule.Tables = []string{"public.orders"}
		s.Transform, s.Identity = []migration.Transform{rule}, migration.IdentitySetFull
	}
}

// A condition that a server refuses, or that means something else whenever it is asked, would be found after hours of
// copying, or never.
func TestConditionsAreTriedOut(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create table orders (id int primary key, "At" timestamptz, price numeric, note text, body json,
		                     twice numeric generated always as (price * 2) stored);
		create function steady(int) returns bool language sql immutable as 'select true';
		create function moody(int) returns bool language plpgsql volatile as 'begin return true; end'`)
	p.target.Exec(t, `create function steady(int) returns bool language sql immutable as 'select true'`)
	for _, condition := range []string{
		"price > 0", `"At" >= timestamptz '2026-01-01 00:00:00+00' -- recent`, "note is not null and length(note) < 10", "public.steady(id)",
		"price > 0\nand note <> ';'",
	} {
		p.of(where("public.orders", condition)).check(t).mustPass(t, "FILTERS")
	}
	for condition, words := range map[string][]string{
		"prise > 0":                        {"prise"},
		"price >":                          {"syntax error"},
		"price":                            {"boolean", "at character 1"},
		"price > 0 and public.brief(note)": {"brief", "at character 15"},
		`"At" > now()`:                     {"IMMUTABLE"},
		"public.moody(id)":                 {"IMMUTABLE"},
		`to_char("At", 'YYYY') = '2026'`:   {"IMMUTABLE"},
		"id in (select 1)":                 {"subquery"},
		"max(id) > 1":                      {"aggregate"},
		"generate_series(1, id) > 0":       {"set-returning"},
		"twice > 0":                        {"twice"},
		"xmin = 1":                         {"xmin"},
		"true) or (true":                   {"public.orders"},
		"true; drop table public.orders":   {"public.orders"},
	} {
		item := p.of(where("public.orders", condition)).check(t).item(t, "FILTERS")
		mustRead(t, item, migration.ItemFailed, append(words, "public.orders")...)
		if item.Ignorable {
			t.Errorf("%q may be ignored", condition)
		}
	}
	if n := pgtest.Value[int](t, p.source, `select count(*)::int from pg_class where relname = 'orders'`); n != 1 {
		t.Error("what was tried out has happened")
	}
}

// What is tried out must be what the copy and the stream ask: the value, cast to the target's column.
func TestTransformationsAreTriedOut(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table orders (id int primary key, price numeric, note text, body json, stamp timestamptz, deleted bool)`)
	for column, value := range map[string]string{
		"price": "price * 2", "note": "upper(note) || id::text", "body": "null", "stamp": "now()", "deleted": "false",
	} {
		p.of(transform(migration.Transform{Set: map[string]string{column: value}})).check(t).mustPass(t, "TRANSFORM")
	}
	p.of(transform(migration.Transform{DropIf: "deleted"})).check(t).mustPass(t, "TRANSFORM")
	for _, test := range []struct {
		column, value string
		words         []string
	}{
		{"price", "note = 'x'", []string{"cannot cast type boolean to numeric"}},
		{"note", "uper(note)", []string{"uper", "at character 1"}},
		{"price", "random()", []string{"IMMUTABLE"}},
		{"price", "(select 1)", []string{"subquery"}},
		{"stamp", "max(stamp)", []string{"aggregate"}},
		{"note", "stamp::text", []string{"IMMUTABLE"}},
	} {
		p.of(transform(migration.Transform{Set: map[string]string{test.column: test.value}}))
		p.check(t).mustBe(t, "TRANSFORM", migration.ItemFailed, append(test.words, "set "+test.column+" of public.orders")...)
	}
	p.of(transform(migration.Transform{DropIf: "note"}))
	p.check(t).mustBe(t, "TRANSFORM", migration.ItemFailed, "dropIf of public.orders", "boolean")
}

// The target has its own types and its own functions.
func TestExpressionsAreTriedOnTheTargetToo(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create table orders (id int primary key, price int);
		create function dear(int) returns bool language sql immutable as 'select true'`)
	p.target.Exec(t, `create table orders (id int primary key, price text, kind int)`)
	without := func(change func(*migration.Spec)) *pair {
		return p.of(func(s *migration.Spec) {
			change(s)
			s.Types = []migration.Type{migration.TypeFull}
		})
	}
	without(where("public.orders", "price > 0")).check(t).mustPass(t, "FILTERS") // both see the source's values
	without(where("public.orders", "public.dear(id)")).check(t).mustBe(t, "FILTERS", migration.ItemFailed, "the target says", "dear")
	without(transform(migration.Transform{Set: map[string]string{"kind": "id % 3"}})).check(t).mustPass(t, "TRANSFORM")
	without(transform(migration.Transform{Set: map[string]string{"kind": "id = 3"}})).check(t).mustPass(t, "TRANSFORM")
	without(transform(migration.Transform{Set: map[string]string{"kind": "date '2026-01-01'"}})).
		check(t).mustBe(t, "TRANSFORM", migration.ItemFailed, "cannot cast type date to integer")
	p.target.Exec(t, `create function dear(int) returns bool language sql immutable as 'select true'`)
	without(where("public.orders", "public.dear(id)")).check(t).mustPass(t, "FILTERS")
}

// A type that comes with the schema is not there yet, which is no fault of the expression.
func TestExpressionsOverTypesThatComeWithTheSchema(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create schema app; create type app.mood as enum ('sad', 'ok');
		create function app.good(app.mood) returns bool language sql immutable as 'select true';
		create table app.a (id int primary key, mood app.mood, other text)`)
	p.of(where("app.a", "mood = 'ok'")).check(t).mustBe(t, "FILTERS", migration.ItemNotice, "come with the schema", "where of app.a")
	p.of(where("app.a", "app.good(mood)")).check(t).mustBe(t, "FILTERS", migration.ItemNotice, "where of app.a")
	p.of(where("app.a", "other = 'ok'")).check(t).mustPass(t, "FILTERS")
	p.of(where("app.a", "mood = 'none'")).check(t).mustBe(t, "FILTERS", migration.ItemFailed, "the source says")
}

// A role that may make no temporary table is told what was not proved.
func TestExpressionsWithoutTheRightToTemporaryTables(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.source.Exec(t, fmt.Sprintf(`create table a (id int primary key, price numeric); grant select on a to %s`, role))
	p.source.Exec(t, fmt.Sprintf(`revoke temporary on database "%s" from public`, p.source.Name))
	p.sourceRole = role
	item := p.of(where("public.a", "price > 0")).check(t).mustBe(t, "FILTERS", migration.ItemAlert, "role "+role, "temporary tables", "source",
		"grant temporary on database")
	if !item.Ignorable {
		t.Error("a person may know that it is immutable")
	}
	p.of(where("public.a", "price + 'x'::text > 0")).check(t).mustBe(t, "FILTERS", migration.ItemFailed, "at character 7", "the source says")
	apply(t, p.source, item.Fix)
	p.of(where("public.a", "price > 0")).check(t).mustPass(t, "FILTERS")
}

// The oldest server that can be a source judges expressions as the newest does.
func TestExpressionsOnTheOldestSource(t *testing.T) {
	t.Parallel()
	p := between(t, pgtest.Server(t, pgtest.Major(10)), pgtest.Shared(t))
	p.source.Exec(t, `create table a (id int primary key, price numeric)`)
	p.of(where("public.a", "price > 0")).check(t).mustPass(t, "FILTERS")
	p.of(where("public.a", "price > random()")).check(t).mustBe(t, "FILTERS", migration.ItemFailed, "IMMUTABLE")
	p.of(where("public.a", "gen_random_uuid() is null")).check(t).mustBe(t, "FILTERS", migration.ItemFailed, "the source says", "gen_random_uuid")
}

// Many tables of one kind are one trial and one sentence.
func TestAlikeTablesAreTriedOnce(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `do $$ begin for i in 1..50 loop execute format('create table t_%s (id int primary key)', i); end loop; end $$`)
	item := p.of(where("public.t_*", "random() > id")).check(t).mustBe(t, "FILTERS", migration.ItemFailed, "and of 49 tables like it")
	if strings.Count(item.Found, "IMMUTABLE") != 1 {
		t.Errorf("%s", item.Found)
	}
}

// Old values that the stream leaves out would be written as if they were empty.
func TestReplicaIdentityForFilters(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "replication")
	p := onShared(t)
	p.source.Exec(t, `create table a (id int primary key, note text); create table b (id int primary key, note text)`)
	as := func(identity migration.IdentityPolicy) *pair {
		return p.of(func(s *migration.Spec) {
			where("public.a", "note <> ''")(s)
			s.Identity = identity
		})
	}
	item := as(migration.IdentityAsIs).check(t).mustBe(t, "REPLICA_IDENTITY", migration.ItemFailed, "public.a",
		`alter table "public"."a" replica identity full;`, "identity: set-full")
	if strings.Contains(item.Found, "public.b") {
		t.Errorf("%s", item.Found)
	}
	as(migration.IdentitySetFull).check(t).mustBe(t, "REPLICA_IDENTITY", migration.ItemNotice, "public.a")
	p.sourceRole = role
	p.source.Exec(t, fmt.Sprintf(`grant select on all tables in schema public to %s`, role))
	right := as(migration.IdentitySetFull).check(t).mustBe(t, "REPLICA_IDENTITY", migration.ItemFailed, role, "public.a", "owner to")
	apply(t, p.source, right.Fix)
	as(migration.IdentitySetFull).check(t).mustBe(t, "REPLICA_IDENTITY", migration.ItemNotice, "public.a")
	apply(t, p.source, item.Fix)
	as(migration.IdentityAsIs).check(t).mustPass(t, "REPLICA_IDENTITY")
}

// A type whose schema is called otherwise on the target is named as it is there.
func TestExpressionsFollowNewNames(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create schema app; create type app.mood as enum ('sad', 'ok'); create table app.a (id int primary key, mood app.mood)`)
	p.target.Exec(t, `create schema shop; create type shop.mood as enum ('sad', 'ok'); create table shop.a (id int primary key, mood shop.mood)`)
	of := func(condition string) report {
		return p.of(func(s *migration.Spec) {
			s.Types = []migration.Type{migration.TypeFull}
			s.Objects = []migration.Object{{Schema: "app", Rename: "shop"}, {Table: "app.a", Where: condition}}
		}).check(t)
	}
	of("mood = 'ok'::app.mood").mustPass(t, "FILTERS", "CONFLICTING_TABLES")
	p.target.Exec(t, `alter type shop.mood rename to other`)
	of("mood = 'ok'::app.mood").mustBe(t, "FILTERS", migration.ItemFailed, "the target says", "shop.mood")
}
