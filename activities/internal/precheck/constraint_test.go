package precheck_test

import (
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// A check that was true when its row was written may say no when the row is copied, hours after everything was green.
func TestChecksThatAskForMoreThanTheirRow(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create table rates (id int primary key);
		create function pure(int) returns boolean language sql immutable as 'select $1 is distinct from 1 and extract(year from date ''2026-01-01'') > 1';
		create table fine (id int primary key check (id > 0), v int check (pure(v)), check (v between 1 and 7));
		create table inherits (check (id < 1000)) inherits (fine);
		create function known(int) returns boolean language plpgsql as 'begin return exists (select from public.rates r where r.id = $1); end';
		create table early (id int primary key); alter table early add constraint later check (id < extract(epoch from now())) not valid`)
	p.check(t).mustPass(t, "CHANGING_CHECKS")
	p.source.Exec(t, `
		create table "Odd ones" (id int primary key, at timestamptz check (at > now() - interval '1 day'), day date check (day = at::date),
			"who knows" int constraint "who knows" check (known("who knows")), d date check (d <= current_date));
		create domain today as date check (value <= current_date);
		insert into rates values (1); insert into "Odd ones" values (1, now(), now()::date, 1, null)`)
	item := p.check(t).mustBe(t, "CHANGING_CHECKS", migration.ItemAlert, `"Odd ones_at_check" of table public."Odd ones" (asks`, "now",
		`"who knows" of table public."Odd ones" (asks known, reads rates)`, "today_check of domain public.today (asks the time or the user)", "Odd ones_d_check", "not valid;")
	if strings.Contains(item.Found, "fine") || strings.Contains(item.Found, "later") || !item.Ignorable {
		t.Errorf("%+v", item)
	}
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "CHANGING_CHECKS")
	if n := pgtest.Value[int](t, p.source, `select count(*)::int from pg_constraint where conrelid = '"Odd ones"'::regclass and contype = 'c'`); n != 4 {
		t.Errorf("%d checks are left of 4", n)
	}
}

// No dump takes an index that is not valid, and nobody would say that it is gone.
func TestInvalidIndexes(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table a (id int primary key, v int); create index by_v on a (v)`)
	p.check(t).mustPass(t, "INVALID_INDEXES")
	p.source.Exec(t, `update pg_index set indisvalid = false where indexrelid = 'by_v'::regclass`)
	item := p.check(t).mustBe(t, "INVALID_INDEXES", migration.ItemNotice, "public.by_v on a", `reindex index "public"."by_v";`)
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "INVALID_INDEXES")
}

// A row that the target would put into another partition stops the copy of the one it is in.
func TestRowsThatBelongIntoOtherPartitions(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create type mood as enum ('a', 'b'); create domain moods as mood;
		create table by_list (m mood) partition by list (m); create table by_list_a partition of by_list for values in ('a');
		create table by_id (id int, code text) partition by hash (id); create table by_id_0 partition of by_id for values with (modulus 1, remainder 0);
		create table by_code (code text) partition by range (code); create table by_code_a partition of by_code for values from ('a') to ('b');
		create table by_c (code text collate "C") partition by range (code); create table by_c_a partition of by_c for values from ('a') to ('b');
		create table by_hash (code text) partition by hash (code); create table by_hash_0 partition of by_hash for values with (modulus 1, remainder 0)`)
	p.check(t).mustPass(t, "PARTITION_BOUNDS")
	p.source.Exec(t, `create table by_mood (id int, m moods) partition by range (id);
		create table by_mood_1 partition of by_mood for values from (1) to (2) partition by hash (m);
		create table by_mood_1_0 partition of by_mood_1 for values with (modulus 1, remainder 0)`)
	item := p.check(t).mustBe(t, "PARTITION_BOUNDS", migration.ItemFailed, "hash of an enum", "public.by_mood_1")
	if strings.Contains(item.Found, "by_list") || strings.Contains(item.Found, "by_id") {
		t.Errorf("%+v", item)
	}
	// As the fix says: the rows go through the root.
	p.target.Exec(t, `create type mood as enum ('a', 'b'); create domain moods as mood;
		create table by_mood (id int, m moods) partition by hash (m); create table other partition of by_mood for values with (modulus 1, remainder 0)`)
	p.of(func(s *migration.Spec) {
		s.Types = []migration.Type{migration.TypeFull, migration.TypeIncremental}
		s.Objects = []migration.Object{{Table: "public.by_mood"}}
	})
	p.check(t).mustPass(t, "PARTITION_BOUNDS")

	p.of(func(*migration.Spec) {})
	p.source.Exec(t, `drop table by_mood`)
	p.target = encoded(t, "LATIN1")
	p.check(t).mustBe(t, "PARTITION_BOUNDS", migration.ItemAlert, "hash of a text", "public.by_hash", "ranges of texts", "public.by_code")
	if item := p.check(t).item(t, "PARTITION_BOUNDS"); strings.Contains(item.Found, "by_c,") || strings.Contains(item.Found, "by_id") {
		t.Errorf("%+v", item)
	}
}

// What names an extension's type names its schema.
func TestExtensionsInOtherSchemas(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create schema ext; create extension hstore schema ext; create table a (id int primary key, h ext.hstore)`)
	p.check(t).mustPass(t, "EXTENSIONS")
	p.target.Exec(t, `create extension hstore`)
	item := p.check(t).mustBe(t, "EXTENSIONS", migration.ItemFailed, "hstore (in public instead of ext)", `alter extension "hstore" set schema "ext";`)
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "EXTENSIONS")
}

// A collation that a user has made of a locale needs the locale on the other host.
func TestLocalesOfOwnCollations(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create collation mine (provider = icu, locale = 'de'); create collation plain (lc_collate = 'C', lc_ctype = 'C');
		insert into pg_collation (oid, collname, collnamespace, collowner, collprovider, collencoding, collcollate, collctype, collisdeterministic)
		values (98765, 'far', 'public'::regnamespace, 10, 'c', -1, 'xx_XX.utf8', 'xx_XX.utf8', true)`)
	later(t, p.source, `delete from pg_collation where oid = 98765`)
	p.check(t).mustBe(t, "COLLATIONS", migration.ItemAlert, "public.far (xx_XX.utf8)", "pg_import_system_collations")
	p.target.Exec(t, `insert into pg_collation (oid, collname, collnamespace, collowner, collprovider, collencoding, collcollate, collctype, collisdeterministic)
		values (98765, 'xx_XX', 'pg_catalog'::regnamespace, 10, 'c', -1, 'xx_XX.UTF-8', 'xx_XX.UTF-8', true)`)
	p.check(t).mustPass(t, "COLLATIONS")
	p.target.Exec(t, `delete from pg_collation where collprovider = 'i'`)
	p.check(t).mustBe(t, "COLLATIONS", migration.ItemAlert, "public.mine")
}
