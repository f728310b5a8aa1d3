package pgtest_test

import (
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
)

// A comparison of catalogs is worth what it sees: each of these changes shows, and the next one takes the last away.
func TestNoChangeOfTheSchemaEscapesTheCatalog(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	db.Exec(t, `create schema s; create table s.a (id int primary key, v text, n numeric); create table s.b (a int references s.a);
		create type s.e as enum ('x'); create domain s.d as int; create sequence s.q; create view s.w as select id from s.a;
		create function s.f() returns trigger language plpgsql as 'begin return new; end'; create trigger t before insert on s.a for each row execute function s.f();
		create index i on s.a (v); create statistics s.st on v, n from s.a; create policy p on s.a; create rule r as on delete to s.b do instead nothing`)
	before := pgtest.Catalog(t, db)
	for _, change := range []string{
		"alter table s.a alter v set default 'x'", "alter table s.a alter v set not null", "alter table s.a alter v set storage external",
		"alter table s.a alter v set statistics 5", "alter table s.a alter v set (n_distinct = 2)", "alter table s.a add w int", "alter table s.a alter n type numeric(3)",
		"alter table s.a set (fillfactor = 50)", "alter table s.a set (toast.autovacuum_enabled = off)", "alter table s.b set unlogged", "alter table s.a set unlogged",
		"alter table s.a replica identity full", "alter table s.a enable row level security", "alter table s.a force row level security", "alter table s.a cluster on i",
		"alter table s.a disable trigger t", "alter table s.b disable rule r", "alter table s.b drop constraint b_a_fkey", "alter table s.b add check (a > 0) not valid",
		"alter type s.e add value 'y'", "alter domain s.d set default 3", "alter domain s.d add check (value > 0)", "alter sequence s.q increment 2", "alter sequence s.q owned by s.a.id",
		"create or replace view s.w with (security_barrier) as select id from s.a", "create or replace view s.w as select id from s.a where id > 0",
		"alter function s.f() cost 5", "alter function s.f() set search_path = ''", "alter index s.i set (fillfactor = 50)", "drop index s.i", "alter statistics s.st set statistics 9",
		"alter policy p on s.a using (true)", "comment on column s.a.v is 'c'", "grant select (v) on s.a to public", "alter view s.w owner to pg_monitor",
		"alter default privileges in schema s grant select on tables to public", "create extension hstore", "create cast (s.e as text) with inout",
	} {
		db.Exec(t, change)
		after := pgtest.Catalog(t, db)
		if pgtest.Difference(before, after) == "" {
			t.Errorf("nothing is different after %s", change)
		}
		before = after
	}
	if len(pgtest.Catalog(t, db, "owner", "right")) >= len(before) {
		t.Error("excepted kinds are not left out")
	}
}
