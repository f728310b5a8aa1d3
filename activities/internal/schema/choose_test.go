package schema_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// wants gives the move a definition.
func (m *move) wants(objects ...migration.Object) *move {
	m.cfg.Spec.Objects, m.cfg.Spec.EverythingElse = objects, ""
	m.cfg.Spec.Defaults()
	return m
}

// ledgerOf lists kind, schema and name of the objects in a state, in order.
func ledgerOf(t *testing.T, m *move, state string) []string {
	t.Helper()
	var titles []string
	for _, row := range m.target.Query(t, `select kind || ' ' || case when schema = '' then '' else schema || '.' end || name
		from dts_sync.object where state = $1 order by no`, state) {
		titles = append(titles, row[0])
	}
	return titles
}

func mustList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

const busy = `
create extension hstore;
create schema app; create schema types; create schema other; comment on schema app is 'application';
create type types.mood as enum ('good', 'bad');
create type types.unused as enum ('never');
create domain types.amount as numeric check (value >= 0);
create type types.pair as (a int, m types.mood);
create collation types.german (provider = icu, locale = 'de');
create function types.next_code() returns text language sql as 'select ''c''';
create function types.code_ok(text) returns boolean language sql immutable as 'select length($1) < 10';
create function types.unused() returns int language sql as 'select 1';
create function types.strip(text) returns text language sql immutable as 'select trim($1)';
create cast (text as types.pair) with inout;
create sequence other.numbers start 100;
create table app.parent (id int primary key);
create table app.base (id serial primary key, other_id bigint generated always as identity, n bigint default nextval('other.numbers'),
    code text default types.next_code() check (types.code_ok(code)), m types.mood, p types.pair, a types.amount, h hstore,
    g text collate types.german, parent int references app.parent, self int references app.base);
create index base_strip on app.base (types.strip(code));
create unique index base_code on app.base (code) where m = 'good';
create statistics app.base_stats on n, code from app.base;
create table app.unwanted (id int primary key, m types.mood);
create view app.over as select id, code from app.base;
create function app.stamp() returns trigger language plpgsql as 'begin return new; end';
create trigger stamp before update on app.base for each row execute function app.stamp();
create rule quiet as on delete to app.base do instead nothing;
alter table app.base enable row level security;
create policy mine on app.base using (m = 'good');
alter table app.base replica identity full;
comment on table app.base is 'base'; comment on column app.base.code is 'code'; comment on index app.base_code is 'unique';
comment on table app.unwanted is 'unwanted'; comment on type types.mood is 'mood'; comment on type types.unused is 'unused';
create table other.far (id int primary key);
create view other.wide as select f.id, b.code from other.far f join app.base b using (id);
create materialized view other.stored as select id from other.far;
create index stored_id on other.stored (id);
create function other.reads(app.unwanted) returns int language sql as 'select 1';
create trigger far_stamp before update on other.far for each row execute function app.stamp();
`

// A single table comes with everything that it needs, and with nothing else.
func TestASelectedTableBringsWhatItNeedsAndNothingElse(t *testing.T) {
	t.Parallel()
	m := newMove(t, busy).wants(migration.Object{Table: "app.base"})
	m.load(t)
	m.create(t, everything...)
	mustList(t, "done", ledgerOf(t, m, "done"),
		"EXTENSION hstore", "COMMENT EXTENSION hstore", "SCHEMA app", "SCHEMA types", "SCHEMA other", "COMMENT SCHEMA app",
		"TYPE types.mood", "COMMENT types.TYPE mood", "DOMAIN types.amount", "TYPE types.pair", "COLLATION types.german", "CAST CAST (text AS types.pair)",
		"FUNCTION types.next_code()", "FUNCTION types.code_ok(text)", "FUNCTION types.strip(text)",
		"SEQUENCE other.numbers", "SEQUENCE app.base_id_seq", "SEQUENCE OWNED BY app.base_id_seq", "SEQUENCE app.base_other_id_seq", "DEFAULT app.base id",
		"TABLE app.base", "COMMENT app.TABLE base", "COMMENT app.COLUMN base.code", "CONSTRAINT app.base base_pkey",
		"INDEX app.base_strip", "INDEX app.base_code", "COMMENT app.INDEX base_code", "STATISTICS app.base_stats",
		"FK CONSTRAINT app.base base_self_fkey", "ROW SECURITY app.base", "POLICY app.base mine")
	mustList(t, "skipped", ledgerOf(t, m, "skipped"), "FK CONSTRAINT app.base base_parent_fkey")
	if why := pgtest.Value[string](t, m.target, "select message from dts_sync.object where state = 'skipped'"); why != "it refers to app.parent, which is not migrated" {
		t.Errorf("left out because %q", why)
	}
	main, err := m.led.Read(t.Context())
	if err != nil || len(main.Notes) != 1 || !strings.Contains(main.Notes[0], "base_parent_fkey") {
		t.Errorf("notes are %q, error %v", main.Notes, err)
	}
	m.source.Exec(t, "alter table app.base drop constraint base_parent_fkey, disable rule quiet; drop rule quiet on app.base; drop trigger stamp on app.base")
	m.mustBeEqual(t, "--table=app.base")
}

// Whole schemas come with views, functions and triggers; what needs a table that is excluded is left out, and so said.
func TestWhatNeedsAnExcludedTableIsLeftOutWithTheReason(t *testing.T) {
	t.Parallel()
	m := newMove(t, busy).wants(migration.Object{Schema: "other"}, migration.Object{Schema: "app", Exclude: []string{"unwanted"}})
	m.load(t)
	m.create(t, everything...)
	for title, reason := range map[string]string{"FUNCTION other.reads(app.unwanted)": "needs TABLE app.unwanted, which is not migrated"} {
		mustList(t, "skipped", ledgerOf(t, m, "skipped"), title)
		if why := pgtest.Value[string](t, m.target, "select message from dts_sync.object where state = 'skipped'"); why != reason {
			t.Errorf("left out because %q", why)
		}
	}
	done := ledgerOf(t, m, "done")
	for _, title := range []string{
		"VIEW app.over", "VIEW other.wide", "MATERIALIZED VIEW other.stored", "MATERIALIZED VIEW DATA other.stored", "INDEX other.stored_id", "TRIGGER app.base stamp",
		"RULE app.base quiet", "TRIGGER other.far far_stamp", "FK CONSTRAINT app.base base_parent_fkey", "TYPE types.mood", "SCHEMA types",
	} {
		if !slices.Contains(done, title) {
			t.Errorf("%s is not there", title)
		}
	}
	for _, title := range []string{"TABLE app.unwanted", "COMMENT app.TABLE unwanted", "TYPE types.unused", "FUNCTION types.unused()"} {
		if slices.Contains(done, title) {
			t.Errorf("%s is there", title)
		}
	}
	m.mustBeEqual(t, "--schema=app", "--exclude-table=app.unwanted")
}

// Everything but one table: extensions, casts and event triggers come, for the whole database is meant.
func TestEverythingButOneTableIsTheWholeDatabase(t *testing.T) {
	t.Parallel()
	m := newMove(t, busy+`drop function other.reads; create function app.on_ddl() returns event_trigger language plpgsql as 'begin end';
		create event trigger watch on ddl_command_end execute function app.on_ddl()`)
	m.cfg.Spec.EverythingElse = migration.IncludeElse
	m.cfg.Spec.Objects = []migration.Object{{Schema: "app", Exclude: []string{"unwanted"}}}
	m.cfg.Spec.Defaults()
	m.load(t)
	m.create(t, everything...)
	m.mustBeEqual(t, "--exclude-table=app.unwanted")
}

// Where no copy finishes tables, the sections alone make everything, with and without the replica role.
func TestASchemaWithoutRowsIsWholeAfterItsSections(t *testing.T) {
	t.Parallel()
	for _, replicaRole := range []bool{true, false} {
		t.Run(fmt.Sprint("replica role ", replicaRole), func(t *testing.T) {
			t.Parallel()
			m := newMove(t, fixture(t, shop, "testdata/rich.sql"))
			m.cfg.Spec.Types = []migration.Type{migration.TypeSchema}
			m.target.Exec(t, "update dts_sync.migration set replica_role = $1", replicaRole)
			m.source.Exec(t, "select nextval('rich.types_id_seq')")
			m.load(t)
			m.create(t, schema.Before, schema.Constraint, schema.Opening, schema.After)
			m.mustBeEqual(t)
			if called := pgtest.Value[bool](t, m.target, "select is_called from rich.types_id_seq"); called {
				t.Error("the sequence is not at its start")
			}
		})
	}
}
