package precheck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Without a key, an update in a publication would fail in the application.
func TestTablesWithoutKey(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create table keyed (id int primary key);
		create unlogged table volatile (id int);
		create table parent (id int, at date) partition by range (at);
		create table leaf partition of parent for values from ('2026-01-01') to ('2027-01-01');
		create table "Log" (line text);
		create table unique_one (a int not null, b int not null, c int, unique (c));
		create unique index "Unique Index" on unique_one (b);
		create table nothing (id int primary key);
		alter table nothing replica identity nothing;
		create table everything (line text);
		alter table everything replica identity full`)
	item := p.check(t).mustBe(t, "TABLES_WITHOUT_KEY", migration.ItemNotice, "4 tables", "public.leaf (", "public.Log (",
		"public.unique_one (", "public.nothing (", "copied again under the fence",
		`alter table "public"."unique_one" replica identity using index "Unique Index";`)
	for _, not := range []string{"keyed", "volatile", "parent", "everything"} {
		if strings.Contains(item.Found, not) {
			t.Errorf("%s is named: %s", not, item.Found)
		}
	}
	p.spec.WithoutKey = migration.FullIdentity
	p.check(t).mustBe(t, "TABLES_WITHOUT_KEY", migration.ItemNotice, "FULL")
	p.spec.WithoutKey = migration.Refuse
	p.check(t).mustBe(t, "TABLES_WITHOUT_KEY", migration.ItemFailed, "withoutKey is refuse")

	p.source.Exec(t, `drop table "Log", parent`)
	fix := p.check(t).mustBe(t, "TABLES_WITHOUT_KEY", migration.ItemFailed, "2 tables").Fix
	apply(t, p.source, fix)
	p.check(t).mustPass(t, "TABLES_WITHOUT_KEY")
}

func TestDeferrableKeys(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create table fine (id int primary key);
		create table a (id int primary key deferrable initially deferred, code text not null unique)`)
	items := p.check(t)
	item := items.mustBe(t, "DEFERRABLE_KEYS", migration.ItemNotice, "public.a (a_pkey)", `using index "a_code_key"`)
	items.mustBe(t, "TABLES_WITHOUT_KEY", migration.ItemNotice, "public.a")
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "DEFERRABLE_KEYS", "TABLES_WITHOUT_KEY")
}

func TestWhatTheStreamDoesNotCarry(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.check(t).mustPass(t, "UNLOGGED_TABLES", "FOREIGN_TABLES", "LARGE_OBJECTS", "RULES_ON_TABLES", "C_FUNCTIONS", "EVENT_TRIGGERS")
	p.source.Exec(t, `
		create unlogged table cache (id int primary key);
		create extension postgres_fdw;
		create server s foreign data wrapper postgres_fdw;
		create foreign table far (id int) server s;
		select lo_create(0);
		create table a (id int primary key);
		create rule quiet as on update to a do also nothing;
		create view v as select * from a;
		create function c_function() returns int language c as '$libdir/plpgsql', 'plpgsql_call_handler'`)
	items := p.check(t)
	unlogged := items.mustBe(t, "UNLOGGED_TABLES", migration.ItemAlert, "public.cache", `alter table "public"."cache" set logged;`)
	if !unlogged.Ignorable {
		t.Error("a cache may well stay behind")
	}
	items.mustBe(t, "FOREIGN_TABLES", migration.ItemNotice, "public.far")
	items.mustBe(t, "LARGE_OBJECTS", migration.ItemAlert, "1 large object", "pg_dump")
	rules := items.mustBe(t, "RULES_ON_TABLES", migration.ItemNotice, "quiet on public.a")
	if strings.Contains(rules.Found, "_RETURN") {
		t.Errorf("the rule of a view is named: %s", rules.Found)
	}
	functions := items.mustBe(t, "C_FUNCTIONS", migration.ItemAlert, "public.c_function", "CREATE OR REPLACE FUNCTION public.c_function()")
	if strings.Contains(functions.Found, "postgres_fdw") || !functions.Ignorable {
		t.Errorf("functions of an extension are named, or it cannot be accepted: %+v", functions)
	}
	apply(t, p.source, unlogged.Fix)
	p.check(t).mustPass(t, "UNLOGGED_TABLES")
}

func TestEventTriggersNeedASuperuser(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.source.Exec(t, `
		create function f() returns event_trigger language plpgsql as 'begin end';
		create event trigger watch on sql_drop execute function f()`)
	p.check(t).mustPass(t, "EVENT_TRIGGERS")
	p.targetRole = role
	p.check(t).mustBe(t, "EVENT_TRIGGERS", migration.ItemNotice, "watch", role)
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.check(t).mustPass(t, "EXTENSIONS")
	p.source.Exec(t, `create extension hstore; create extension "uuid-ossp"; create extension postgres_fdw`)
	p.check(t).mustPass(t, "EXTENSIONS")

	// A plain role may create the trusted ones; a superuser has to make the others.
	p.targetRole = role
	item := p.check(t).mustBe(t, "EXTENSIONS", migration.ItemAlert, "postgres_fdw", "create extension")
	if strings.Contains(item.Found, "hstore") {
		t.Errorf("hstore is trusted: %s", item.Found)
	}
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "EXTENSIONS")

	// An extension that nobody packages for the target.
	p.source.Exec(t, `insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
		values (99999, 'home_grown', 10, 2200, false, '1.0')`)
	later(t, p.source, `delete from pg_extension where oid = 99999`)
	p.check(t).mustBe(t, "EXTENSIONS", migration.ItemFailed, "home_grown", "install")
}

// A sequence that repeats what is there fails on the source as well, and would be blamed on the migration.
func TestSequencesBehindTheirColumns(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create table good (id serial primary key); insert into good default values;
		create table fresh (id bigint generated by default as identity (start with 100) primary key);
		create table "Behind" ("Id" serial primary key); insert into "Behind" values (7);
		create sequence loose; create table fed (id int primary key default nextval('loose')); insert into fed values (1);
		create table down (id int generated by default as identity (increment by -1) primary key); insert into down values (-9);
		create table scanned (id serial); insert into scanned values (1000);
		create table at_the_edge (id serial primary key); insert into at_the_edge values (1);
		create sequence round maxvalue 3 cycle; create table circle (id int primary key default nextval('round')); insert into circle values (3)`)
	item := p.check(t).mustBe(t, "SEQUENCES_BEHIND", migration.ItemAlert, "public.Behind_Id_seq (column Id of public.Behind)",
		"public.loose", "public.down_id_seq", "public.at_the_edge_id_seq", "select setval(")
	for _, not := range []string{"good", "fresh", "scanned", "round"} {
		if strings.Contains(item.Found, not) {
			t.Errorf("%s is named: %s", not, item.Found)
		}
	}
	if !item.Ignorable {
		t.Error("it may be meant")
	}
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "SEQUENCES_BEHIND")
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.check(t).mustPass(t, "ENCODING")
	for _, test := range []struct {
		from, to string
		state    migration.ItemState
		word     string
	}{
		{"LATIN1", "UTF8", migration.ItemPassed, "LATIN1"},
		{"LATIN1", "LATIN1", migration.ItemPassed, "LATIN1"},
		{"UTF8", "LATIN1", migration.ItemFailed, "encoding 'UTF8'"},
		{"SQL_ASCII", "UTF8", migration.ItemAlert, "never checked"},
		{"UTF8", "SQL_ASCII", migration.ItemAlert, "SQL_ASCII"},
	} {
		t.Run(test.from+" to "+test.to, func(t *testing.T) {
			q := onShared(t)
			q.source, q.target = encoded(t, test.from), encoded(t, test.to)
			q.check(t).mustBe(t, "ENCODING", test.state, test.word)
		})
	}
}

func encoded(t *testing.T, encoding string) *pgtest.DB {
	t.Helper()
	db := pgtest.Database(t, pgtest.Shared(t))
	admin := pgtest.DB{URI: db.Server.URI("postgres"), Name: "postgres", Server: db.Server}
	admin.Exec(t, fmt.Sprintf(`drop database "%s"`, db.Name))
	admin.Exec(t, fmt.Sprintf(`create database "%s" encoding '%s' lc_collate 'C' lc_ctype 'C' template template0`, db.Name, encoding))
	return db
}

func TestCollations(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.check(t).mustPass(t, "COLLATIONS")
	// The target's catalog loses one, as on a host without that locale.
	p.source.Exec(t, `create table a (id int primary key, name text collate "de-x-icu"); create domain d as text collate "sv-x-icu"`)
	p.check(t).mustPass(t, "COLLATIONS")
	p.target.Exec(t, `delete from pg_collation where collname in ('de-x-icu', 'sv-x-icu')`)
	p.check(t).mustBe(t, "COLLATIONS", migration.ItemFailed, "de-x-icu, sv-x-icu", "ICU")

	q := onShared(t)
	q.target = encoded(t, "UTF8")
	q.check(t).mustBe(t, "COLLATIONS", migration.ItemNotice, "another order", "by lc_collate C, lc_ctype C, provider c on the target")
}

// Existing tables are never written into by accident.
func TestSameTablesOnTheTarget(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table a (id int primary key); create table "B" (id int primary key); create table c (id int primary key)`)
	p.target.Exec(t, `create table a (id int); create view "B" as select 1; create table other (id int)`)
	item := p.check(t).mustBe(t, "TARGET_SAME_TABLES", migration.ItemFailed, "2 tables", "public.B, public.a",
		`drop view if exists "public"."B" cascade;`, `drop table if exists "public"."a" cascade;`)
	if item.Ignorable {
		t.Error("rows of somebody else would be mixed with ours")
	}
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "TARGET_SAME_TABLES", "TARGET_SAME_OBJECTS")
}

func TestSameTablesAreListedUpToTwenty(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	const many = `do $$ begin for i in 1..33 loop execute format('create table t_%s (id int primary key)', i); end loop; end $$`
	p.source.Exec(t, many)
	p.target.Exec(t, many)
	item := p.check(t).mustBe(t, "TARGET_SAME_TABLES", migration.ItemFailed, "33 tables", "and 13 more")
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "TARGET_SAME_TABLES")
}

func TestSameObjectsOnTheTarget(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	const objects = `
		create schema s;
		create type s.mood as enum ('a'); create domain s.d as int; create type s.pair as (a int, b int);
		create sequence s.q; create view s.v as select 1 as one; create materialized view s.m as select 1 as one;
		create function s.f(int) returns int language sql as 'select 1';
		create procedure s.p() language sql as 'select 1';
		create aggregate s.total(int) (sfunc = int4pl, stype = int);
		create operator s.=== (function = int4pl, leftarg = int, rightarg = int);
		create collation s.mine (provider = icu, locale = 'de');
		create text search configuration s.config (copy = pg_catalog.english); create text search dictionary s.dict (template = simple);
		create default conversion s.conv for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8;
		create operator family s.family using btree`
	p.source.Exec(t, objects+`; create function s.in_c() returns int language c as '$libdir/plpgsql', 'plpgsql_call_handler'; create extension hstore; create table s.t (id int primary key); create index i on s.t (id);
		create function s.f(text) returns int language sql as 'select 1'`)
	p.target.Exec(t, `create extension hstore; create schema s; create function s.f(bigint) returns int language sql as 'select 1'; create table s.unlike (id int)`)
	p.check(t).mustPass(t, "TARGET_SAME_OBJECTS") // a schema, an extension, and a function of other arguments are no obstacle
	p.target.Exec(t, `drop schema s cascade`)
	p.target.Exec(t, objects+`; create table s.i (id int); create function s.in_c() returns int language sql as 'select 1'`)

	item := p.check(t).mustBe(t, "TARGET_SAME_OBJECTS", migration.ItemFailed, "type s.mood", "type s.d", "composite type s.pair",
		"sequence s.q", "view s.v", "materialized view s.m", "function s.f(integer)", "procedure s.p()", "aggregate s.total(integer)",
		"operator s.===(integer,integer)", "collation s.mine", "table s.i",
		"text search configuration s.config", "text search dictionary s.dict", "conversion s.conv", "operator family s.family USING btree")
	if strings.Contains(item.Found, "hstore") || strings.Contains(item.Found, "in_c") {
		t.Errorf("an extension's objects are named: %s", item.Found)
	}
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "TARGET_SAME_OBJECTS")
}

// What this very migration has made does not stop it from going on.
func TestOwnTablesDoNotCount(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	const objects = `create table a (id serial primary key, note text); create index by_note on a (note); create function f(int) returns int language sql as 'select 1'`
	p.source.Exec(t, objects)
	p.target.Exec(t, objects)
	makeLedger(t, p.target)
	other := migration.RandomID("shop")
	record(t, p.target, other)
	p.check(t).mustBe(t, "TARGET_SAME_TABLES", migration.ItemFailed, "public.a")
	p.target.Exec(t, `delete from dts_sync.migration`)
	record(t, p.target, p.spec.ID)
	p.check(t).mustPass(t, "TARGET_SAME_TABLES", "TARGET_SAME_OBJECTS", "TARGET_LEDGER")
}

// record writes what a migration that has made table a and function f leaves in the ledger.
func record(t *testing.T, db *pgtest.DB, id migration.ID) {
	t.Helper()
	db.Exec(t, `insert into dts_sync.migration (id, run, lease_until, spec) values ($1, 'r', now() + interval '1 hour', '{}')`, id)
	db.Exec(t, `insert into dts_sync.tbl (migration, relid, schema, name, target_schema, target_name, mode, def, fingerprint)
		values ($1, 1, 'public', 'a', 'public', 'a', 'keyrange', '{}', '')`, id)
	db.Exec(t, `insert into dts_sync.object (migration, no, dump_id, section, kind, schema, name, ddl, state)
		values ($1, 1, 1, 'before', 'FUNCTION', 'public', 'f(integer)', '', 'done')`, id)
}

// Two migrations that write the same tables would each undo the other; an opened target belongs to the application.
func TestOtherMigrationsOnTheTarget(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.source.Exec(t, `create table a (id int primary key)`)
	p.check(t).mustPass(t, "TARGET_LEDGER")
	makeLedger(t, p.target)
	other := migration.RandomID("other")
	record(t, p.target, other)
	p.check(t).mustBe(t, "TARGET_LEDGER", migration.ItemFailed, string(other), "is at work", "public.a", "pgdts release "+string(other))
	p.target.Exec(t, `update dts_sync.migration set lease_until = now() - interval '1 day'`)
	p.check(t).mustBe(t, "TARGET_LEDGER", migration.ItemFailed, string(other), "has not ended")
	p.target.Exec(t, `update dts_sync.migration set ended = 'finished', opened_at = now()`)
	p.check(t).mustPass(t, "TARGET_LEDGER")

	p.targetRole = role
	item := p.check(t).mustBe(t, "TARGET_LEDGER", migration.ItemFailed, role, "dts_sync")
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "TARGET_LEDGER")

	record(t, p.target, p.spec.ID)
	p.check(t).mustPass(t, "TARGET_LEDGER")
	p.target.Exec(t, `update dts_sync.migration set opened_at = now() where id = $1`, p.spec.ID)
	p.check(t).mustBe(t, "TARGET_LEDGER", migration.ItemFailed, "opened the target", "pgdts release")
}

// Ten thousand tables must not take ten thousand questions.
func TestManyTables(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 10,000 tables")
	}
	p := onShared(t)
	crowded := pgtest.Server(t, pgtest.Setting("max_locks_per_transaction", "256"))
	// Its own database goes with the server: to drop ten thousand tables takes longer than to look at them.
	p.source = &pgtest.DB{URI: crowded.URI("postgres"), Name: "postgres", Server: crowded}
	for batch := range 20 {
		column := "id int primary key"
		if batch == 0 {
			column = "id int generated by default as identity primary key"
		}
		p.source.Exec(t, fmt.Sprintf(`do $$ begin for i in 1..500 loop execute format('create table t_%d_%%s (%s)', i); end loop; end $$`, batch, column))
	}
	const asked = `select (xact_commit + xact_rollback)::int from pg_stat_database where datname = current_database()`
	before := pgtest.Value[int](t, p.source, asked)
	items := p.check(t)
	for _, item := range items {
		if item.Blocks() {
			t.Errorf("%s: %s", item.Code, item.Found)
		}
	}
	p.source.WaitUntil(t, `select not exists (select from pg_stat_activity where application_name like 'pgdts/%')`)
	if n := pgtest.Value[int](t, p.source, asked) - before; n > 300 {
		t.Errorf("%d questions", n)
	}
}
