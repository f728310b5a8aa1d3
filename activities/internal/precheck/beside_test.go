package precheck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// What does not come along, or comes in another way than one might think, is said before and mended as the fix says.
func TestWhatStandsBesideTheTables(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table a (id int primary key, v text)`)
	p.check(t).mustPass(t, "PUBLICATIONS", "CRON_JOBS", "SECURITY_LABELS", "UNFILLED_VIEWS", "EXTENSION_TABLES", "MONEY", "FOREIGN_SERVERS", "DATABASE_SETTINGS")
	p.source.Exec(t, `
		create publication dts_sync_not_a_users for all tables;
		create publication "For All" for all tables with (publish = 'insert, truncate', publish_via_partition_root);
		create publication part for table a (id) where (id > 7) with (publish = 'insert');
		create publication nothing_yet;
		create publication whole for tables in schema public;
		create schema cron; create table cron.job (jobid bigint primary key, active boolean); insert into cron.job values (1, true), (2, true);
		insert into pg_seclabel values ('a'::regclass, 'pg_class'::regclass, 0, 'home_grown', 'secret');
		create materialized view later as select 1 as one with no data;
		create materialized view now as select 1 as one;
		create extension hstore; create table conf (id int primary key); create table kept (id int); insert into conf values (1); insert into kept values (1);
		alter extension hstore add table conf; alter extension hstore add table kept;
		update pg_extension set extconfig = array['conf'::regclass::oid], extcondition = array['where id > 0'] where extname = 'hstore';
		create table prices (id int primary key, price money, more money[])`)
	later(t, p.source, `alter extension hstore drop table kept`)
	items := p.check(t)
	published := items.mustBe(t, "PUBLICATIONS", migration.ItemNotice, "For All", "nothing_yet", "part", "whole",
		`create publication "For All" for all tables with (publish = 'insert, truncate', publish_via_partition_root);`,
		`create publication part for table only public.a (id) where ((id > 7)) with (publish = 'insert');`,
		`create publication whole for tables in schema public with`)
	if strings.Contains(published.Found, "dts_sync") {
		t.Errorf("a migration's own is named: %s", published.Found)
	}
	p.target.Exec(t, `create table a (id int primary key)`)
	apply(t, p.target, published.Fix)
	jobs := items.mustBe(t, "CRON_JOBS", migration.ItemNotice, "2 jobs", "rows are copied")
	apply(t, p.source, jobs.Fix)
	items.mustBe(t, "SECURITY_LABELS", migration.ItemNotice, "home_grown", "shared_preload_libraries")
	unfilled := items.mustBe(t, "UNFILLED_VIEWS", migration.ItemNotice, "public.later")
	if strings.Contains(unfilled.Found, "public.now") {
		t.Errorf("it is filled: %s", unfilled.Found)
	}
	apply(t, p.source, unfilled.Fix)
	p.check(t).mustPass(t, "UNFILLED_VIEWS")
	items.mustBe(t, "EXTENSION_TABLES", migration.ItemNotice, "copied: public.conf (hstore where id > 0)", "not copied: public.kept (hstore)")
	items.mustBe(t, "MONEY", migration.ItemNotice, "public.prices.price", "public.prices.more", "show lc_monetary")
}

// Settings of a database are what its applications see first on the other side.
func TestSettingsOfTheDatabase(t *testing.T) {
	t.Parallel()
	here := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.check(t).mustPass(t, "DATABASE_SETTINGS")
	p.source.Exec(t, fmt.Sprintf(`
		alter database %[1]q set search_path = "My App", public; alter database %[1]q set timezone = 'Asia/Kathmandu';
		alter database %[1]q set "my.own" = 'it''s; -- odd'; alter database %[1]q set work_mem = '8MB';
		alter role %[2]s in database %[1]q set statement_timeout = '5s'`, p.source.Name, here))
	item := p.check(t).mustBe(t, "DATABASE_SETTINGS", migration.ItemNotice, "search_path", "TimeZone", "my.own",
		"statement_timeout (role "+here+" in the database)",
		fmt.Sprintf(`alter database "%s" set search_path = "My App", public;`, p.target.Name))
	conn := p.target.Conn(t)
	for line := range strings.Lines(item.Fix) {
		if _, err := conn.Exec(t.Context(), line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	p.check(t).mustPass(t, "DATABASE_SETTINGS")
	const configured = `select (select string_agg(c, '|' order by c) from unnest(setconfig) c) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
		where d.datname = current_database() and setrole = 0`
	if here, there := pgtest.Value[string](t, p.source, configured), pgtest.Value[string](t, p.target, configured); here != there {
		t.Errorf("the target has %s, the source %s", there, here)
	}
}

func TestForeignServers(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.source.Exec(t, `create extension postgres_fdw; create server far foreign data wrapper postgres_fdw options (host '10.0.0.1')`)
	p.target.Exec(t, `create extension postgres_fdw`)
	p.check(t).mustPass(t, "FOREIGN_SERVERS")
	p.targetRole = role
	item := p.check(t).mustBe(t, "FOREIGN_SERVERS", migration.ItemAlert, "postgres_fdw", "grant usage on foreign data wrapper")
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "FOREIGN_SERVERS")
	p.source.Exec(t, `create user mapping for current_user server far options (user 'u', password 'secret-word')`)
	secret := p.check(t).mustBe(t, "FOREIGN_SERVERS", migration.ItemNotice, "far")
	if strings.Contains(fmt.Sprint(secret), "secret-word") {
		t.Errorf("a password is told: %+v", secret)
	}
}

func TestTemporaryTables(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.check(t).mustPass(t, "TEMPORARY_TABLES")
	if _, err := p.source.Conn(t).Exec(t.Context(), `create temporary table mine (id int)`); err != nil {
		t.Fatal(err)
	}
	p.check(t).mustBe(t, "TEMPORARY_TABLES", migration.ItemNotice, "1 temporary table")
}

// A role that may not make them would fail on one after the other, when the precheck was green.
func TestObjectsOfASuperuser(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.targetRole = role
	p.source.Exec(t, `create table a (id int primary key); create function plain(int) returns int language sql as 'select 1'; create aggregate sum_of(int) (sfunc = int4pl, stype = int)`)
	p.check(t).mustPass(t, "SUPERUSER_OBJECTS")
	p.source.Exec(t, `
		create function tight(int) returns int language sql leakproof as 'select 1';
		create function inner_one(int) returns int language internal as 'int4abs';
		create operator class mine for type int using btree as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int);
		create access method mine type index handler bthandler;
		create text search template mine (init = dsimple_init, lexize = dsimple_lexize);
		create text search parser mine (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype);
		create aggregate inside(numeric) (sfunc = numeric_avg_accum, stype = internal, finalfunc = numeric_avg);
		create foreign data wrapper mine;
		create type base; create function base_in(cstring) returns base language internal immutable strict as 'int4in';
		create function base_out(base) returns cstring language internal immutable strict as 'int4out';
		create type base (input = base_in, output = base_out, like = int4); create cast (base as int) without function`)
	item := p.check(t).mustBe(t, "SUPERUSER_OBJECTS", migration.ItemAlert, "public.tight", "public.inner_one", "operator family public.mine", "access method mine",
		"text search template public.mine", "text search parser public.mine", "aggregate public.inside", "foreign-data wrapper mine", "type public.base", "cast ", role)
	if strings.Contains(item.Found, "plain") || strings.Contains(item.Found, "sum_of") {
		t.Errorf("anybody may make it: %s", item.Found)
	}
	p.source.Exec(t, `create table uses (id int primary key, b base[])`)
	p.check(t).mustBe(t, "SUPERUSER_OBJECTS", migration.ItemFailed, "public.uses")
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.a"}} })
	p.check(t).mustPass(t, "SUPERUSER_OBJECTS")
	p.of(func(*migration.Spec) {})
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "SUPERUSER_OBJECTS")
}

// A table that is left out with its type would have no place for its rows.
func TestTablesThatNeedFunctionsInC(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create function plus(int, int) returns int language c immutable as '$libdir/plpgsql', 'plpgsql_call_handler';
		create table plain (id int primary key);
		create operator <+> (function = plus, leftarg = int, rightarg = int);
		create view v as select plus(id, 1) from plain`)
	p.check(t).mustBe(t, "C_FUNCTIONS", migration.ItemAlert, "public.plus", "operator public.<+>", "view public.v")
	p.source.Exec(t, `
		create table by_default (id int primary key default plus(1, 2));
		create table by_check (id int primary key check (plus(id, 1) > 0));
		create type base; create function base_in(cstring) returns base language c immutable strict as '$libdir/plpgsql', 'plpgsql_call_handler';
		create function base_out(base) returns cstring language c immutable strict as '$libdir/plpgsql', 'plpgsql_call_handler';
		create type base (input = base_in, output = base_out, like = int4);
		create table by_type (id int primary key, b base[])`)
	p.check(t).mustBe(t, "C_FUNCTIONS", migration.ItemFailed, "public.by_default", "public.by_check", "public.by_type")
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.plain"}} })
	p.check(t).mustPass(t, "C_FUNCTIONS")
}

// Such a function works for every application, and fails in the sessions that copy rows and build indexes.
func TestCodeThatNeedsASearchPath(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create schema app; set check_function_bodies = off;
		create table app.rates (id int primary key);
		create type app.mood as enum ('sad');
		create function app.qualified(int) returns boolean language sql as 'select exists (select from app.rates where id = $1) -- from rates';
		create function app.pathed(int) returns boolean language plpgsql set search_path = app as 'begin return exists (select from rates); end';
		create function app.helper(int) returns int language sql immutable as 'select abs($1)';
		create function app.unused(int) returns int language sql as 'select id from rates';
		create table app.fine (id int primary key check (app.qualified(id)), v int check (app.pathed(v)));
		create index on app.fine (app.helper(v))`)
	p.check(t).mustPass(t, "SEARCHED_CODE")
	p.source.Exec(t, `
		set check_function_bodies = off;
		create function app.looks(int) returns boolean language plpgsql as 'begin return exists (select from Rates where id = $1); end';
		create function app.calls(int) returns int language plpgsql immutable as 'begin return helper($1); end';
		create function app.casts(int) returns int language plpgsql immutable as 'begin perform ''sad''::mood; return 1; end';
		create function app.filled(int) returns int language sql stable as 'select id from "rates" limit 1';
		create table app.checked (id int primary key check (app.looks(id)));
		create domain app.d as int check (app.looks(value));
		create table app.indexed (id int primary key, v int, w int generated always as (app.casts(v)) stored);
		create index by_calls on app.indexed (app.calls(v));
		set search_path = app;
		create materialized view app.m as select app.filled(1)`)
	item := p.check(t).mustBe(t, "SEARCHED_CODE", migration.ItemAlert, "app.looks(integer), which table constraint checked_id_check on app.checked calls (rates)",
		"app.calls(integer), which index app.by_calls calls (helper)", "app.casts(integer)", "(mood)", "app.filled(integer), which materialized view app.m calls",
		`alter function app.looks(integer) set search_path = "app", "pg_catalog", "pg_temp";`)
	for _, not := range []string{"qualified", "pathed", "unused"} {
		if strings.Contains(item.Found, not) {
			t.Errorf("%s is named: %s", not, item.Found)
		}
	}
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "SEARCHED_CODE")
}

// A row whose role or index the target does not know stops the copy, whenever it comes.
func TestValuesThatNameThings(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table fine (id int primary key, o oid, n name)`)
	p.check(t).mustPass(t, "NAMED_VALUES")
	p.source.Exec(t, `create domain which as regclass; create table a (id int primary key, c which, r regrole[], acl aclitem);
		insert into a values (1, 'a_pkey', '{postgres}', null)`)
	item := p.check(t).mustBe(t, "NAMED_VALUES", migration.ItemAlert, "public.a.c (regclass)", "public.a.r (regrole[])", "public.a.acl (aclitem)")
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "NAMED_VALUES")
	if kept := pgtest.Value[string](t, p.source, `select c || r::text from a`); kept != "a_pkey{postgres}" {
		t.Errorf("the fix has made %s of the values", kept)
	}
}

// Names of columns come from the first parent alone.
func TestTablesWithSeveralParents(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table one (id int primary key, a int); create table two (b int, c int); create table child (primary key (id)) inherits (one, two)`)
	p.check(t).mustBe(t, "INHERITANCE", migration.ItemPassed, "1 table with several parents")
	p.of(func(s *migration.Spec) {
		s.Objects = []migration.Object{{Table: "public.two", Columns: migration.Columns{Rename: map[string]string{"b": "bee"}}}, {Table: "public.one"}, {Table: "public.child"}}
	})
	p.check(t).mustBe(t, "INHERITANCE", migration.ItemFailed, "public.child", "take schema out of types")
	p.of(func(s *migration.Spec) {
		s.Objects = []migration.Object{{Table: "public.two"}, {Table: "public.one"}, {Table: "public.child"}}
	})
	p.check(t).mustPass(t, "INHERITANCE")
}

// Under a changed order an index misses rows, and may hold a value twice, which shows when the target builds its own.
func TestVersionsOfCollations(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create collation german (provider = icu, locale = 'de');
		create table a (id int primary key, name text collate german); create table b (code text collate german primary key, n int);
		create index plain on a (name)`)
	p.check(t).mustPass(t, "COLLATION_VERSIONS")
	const age = `update pg_collation set collversion = '0.1' where collname = 'german'`
	p.source.Exec(t, age)
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.a"}} })
	p.check(t).mustBe(t, "COLLATION_VERSIONS", migration.ItemNotice, "public.german", "public.plain on public.a")
	p.of(func(*migration.Spec) {})
	item := p.check(t).mustBe(t, "COLLATION_VERSIONS", migration.ItemAlert, "public.german", "public.b_pkey on public.b", "copied whole",
		`reindex index "public"."b_pkey";`, `alter collation "public"."german" refresh version;`)
	if !item.Ignorable {
		t.Error("a person may know that nothing has changed")
	}
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "COLLATION_VERSIONS")

	// The version of the database's own collation is kept since 15; a library without versions keeps none.
	p.source.Exec(t, `create table c (code text primary key)`)
	p.source.Exec(t, `update pg_database set datcollversion = '0.1' where datname = current_database()`)
	own := p.check(t).mustBe(t, "COLLATION_VERSIONS", migration.ItemAlert, "the database's own", "public.c_pkey on public.c", "refresh collation version;")
	if strings.Contains(own.Found, "b_pkey") {
		t.Errorf("it has a collation of its own: %s", own.Found)
	}
	p.source.Exec(t, `update pg_database set datcollversion = null where datname = current_database()`)
	p.check(t).mustPass(t, "COLLATION_VERSIONS")
}

// What fits on the source must fit on the target, as it is.
func TestNarrowerColumnsOfTheTarget(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create type mood as enum ('sad', 'happy');
		create table a (id bigint primary key, n numeric(10, 4), f double precision, t text, v varchar(20), at timestamp(6), m mood, opt int, i int,
			g int generated always as (1) stored, h int, free numeric, fine int, same numeric(10, 4))`)
	p.target.Exec(t, `
		create type mood as enum ('sad');
		create table a (id int primary key, n numeric(10, 2), f real, t varchar(10), v varchar(10), at timestamp(0), m mood, opt int not null, i numeric(5, 0),
			g int, h int generated always as (2) stored, free numeric(10, 0), fine bigint, same numeric(12, 4))`)
	p.of(types(migration.TypeFull, migration.TypeIncremental))
	item := p.check(t).mustBe(t, "CONFLICTING_TABLES", migration.ItemAlert, "public.a.id (bigint into integer)", "public.a.n (numeric(10,4) into numeric(10,2))",
		"public.a.f (double precision into real)", "public.a.t (text into character varying(10))", "public.a.v (", "public.a.at (",
		"public.a.m (enum ", "without happy", "public.a.opt", "public.a.i (integer into numeric(5,0))", "public.a.free (numeric into numeric(10,0))",
		"generated on the source alone, and stay empty on the target: public.a.g", "generated on the target alone, which does not take the source's values: public.a.h")
	if strings.Contains(item.Found, "fine") || strings.Contains(item.Found, "same") || !item.Ignorable {
		t.Errorf("%+v", item)
	}
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "CONFLICTING_TABLES")
}
