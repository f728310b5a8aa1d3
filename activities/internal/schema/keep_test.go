package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const shared = `
create schema s; create type s.mood as enum ('a'); create function s.f() returns int language sql as 'select 1';
create sequence s.numbers; create extension hstore;
create table s.old (id serial primary key, v text unique, m s.mood, check (id > 0));
create index old_v on s.old (v); comment on table s.old is 'from the source'; alter table s.old enable row level security;
create table s.fresh (id int primary key, old int references s.old, m s.mood default 'a');
create view s.over as select id, v from s.old; comment on view s.over is 'from the source';
create view s.kept as select 1 as one; comment on view s.kept is 'from the source';
create materialized view s.stored as select 1 as one; create unique index stored_one on s.stored (one);
create function s.stamp() returns trigger language plpgsql as 'begin return new; end';
create trigger stamp before update on s.old for each row execute function s.stamp();
create trigger other before update on s.old for each row execute function s.stamp();
create table s.root (id int) partition by range (id); create table s.leaf partition of s.root for values from (0) to (10);
create index root_id on s.root (id);
`

const alreadyThere = `
create schema s; create type s.mood as enum ('a', 'b'); create function s.f() returns int language sql as 'select 2';
create sequence s.numbers start 77;
create table s.old (id int primary key, v text, own text); insert into s.old values (1, 'mine', 'x'); comment on table s.old is 'mine';
create view s.kept as select 2 as two; comment on view s.kept is 'mine';
create materialized view s.stored as select 2 as one with no data;
create function s.stamp() returns trigger language plpgsql as 'begin return null; end';
create trigger stamp before update on s.old for each row execute function s.stamp();
create table s.root (id int) partition by range (id);
`

// Nothing that the target has is altered, whatever the source says; what is missing and belongs to nobody there is made.
func TestWhatTheTargetHasIsNotAltered(t *testing.T) {
	t.Parallel()
	m := newMove(t, shared)
	m.cfg.Spec.Conflict = migration.ConflictIgnore
	m.wants()
	m.target.Exec(t, alreadyThere)
	before := dumpOf(t, m.target, "--table=s.old", "--table=s.kept", "--table=s.stored", "--table=s.root", "--table=s.numbers")
	m.load(t)
	m.create(t, everything...)
	if after := dumpOf(t, m.target, "--table=s.old", "--table=s.kept", "--table=s.stored", "--table=s.root", "--table=s.numbers"); after != before {
		t.Fatalf("what was there is changed:\n%s", diff(t, before, after))
	}
	made := fmt.Sprint(m.target.Query(t, "select s.f(), (select count(*) from pg_enum)::int, (select relispopulated from pg_class where relname = 'stored')"))
	if made != "[[2 2 f]]" {
		t.Errorf("function, type, stored view: %s", made)
	}
	var kept []string
	for _, row := range m.target.Query(t, "select kind || ' ' || name from dts_sync.object where message = 'was there already'") {
		kept = append(kept, row[0])
	}
	mustList(t, "was there", kept, "SCHEMA s", "TYPE mood", "FUNCTION f()", "FUNCTION stamp()", "SEQUENCE numbers", "TABLE old", "TABLE root", "VIEW kept",
		"MATERIALIZED VIEW stored", "TRIGGER old stamp", "CONSTRAINT old old_pkey")
	reason := "was there already and is not altered"
	mustList(t, "skipped", ledgerOf(t, m, "skipped"), "COMMENT s.TABLE old", "COMMENT s.VIEW kept", "CONSTRAINT s.old old_v_key", "DEFAULT s.old id", "INDEX s.old_v",
		"INDEX s.root_id", "INDEX ATTACH s.leaf_id_idx", "INDEX s.stored_one", "ROW SECURITY s.old", "SEQUENCE s.old_id_seq", "SEQUENCE OWNED BY s.old_id_seq", "TABLE ATTACH s.leaf",
		"TRIGGER s.old other")
	for _, row := range m.target.Query(t, "select name, message from dts_sync.object where state = 'skipped'") {
		if !strings.Contains(row[1], reason) && !strings.HasPrefix(row[1], "needs ") {
			t.Errorf("%s is left out because %q", row[0], row[1])
		}
	}
	tables, err := m.led.Made(t.Context())
	if want := map[migration.TableName]bool{{Schema: "s", Name: "fresh"}: true, {Schema: "s", Name: "leaf"}: true}; err != nil || fmt.Sprint(tables) != fmt.Sprint(want) {
		t.Errorf("made %v, error %v", tables, err)
	}
	if n := pgtest.Value[int](t, m.target, "select count(*) from pg_constraint where conrelid = 's.fresh'::regclass and contype = 'f'"); n != 1 {
		t.Errorf("%d foreign keys of the new table", n)
	}
	main, err := m.led.Read(t.Context())
	if notes := strings.Join(main.Notes, "\n"); err != nil || !strings.Contains(notes, "TABLE s.old") || !strings.Contains(notes, "TYPE s.mood") {
		t.Errorf("notes are %q, error %v", main.Notes, err)
	}
}

// Beginning anew drops and empties nothing that was there, twice.
func TestBeginningAnewLeavesAloneWhatTheTargetHad(t *testing.T) {
	t.Parallel()
	m := newMove(t, shared)
	m.cfg.Spec.Conflict = migration.ConflictIgnore
	m.wants()
	m.target.Exec(t, alreadyThere)
	before := dumpOf(t, m.target, "--table=s.old", "--table=s.kept", "--table=s.stored", "--table=s.root", "--table=s.numbers")
	m.load(t)
	m.create(t, everything...)
	made := ledgerOf(t, m, "done")
	for range 2 {
		m.undo(t)
		if err := m.led.Restart(t.Context(), m.cfg.Lane, true, m.cfg.Report); err != nil {
			t.Fatal(err)
		}
		m.create(t, everything...)
	}
	mustList(t, "done", ledgerOf(t, m, "done"), made...)
	if after := dumpOf(t, m.target, "--table=s.old", "--table=s.kept", "--table=s.stored", "--table=s.root", "--table=s.numbers"); after != before {
		t.Fatalf("what was there is changed:\n%s", diff(t, before, after))
	}
	if v := pgtest.Value[string](t, m.target, "select v from s.old"); v != "mine" {
		t.Errorf("the row is %q", v)
	}
}

// Without conflict: ignore a name that is taken is a failure, as ever.
func TestANameThatIsTakenIsAFailure(t *testing.T) {
	t.Parallel()
	m := newMove(t, shared).wants()
	m.target.Exec(t, "create schema s; create table s.old (id int)")
	m.load(t)
	_, _, err := schema.Create(t.Context(), m.cfg, schema.Before, schema.Options{})
	mustFail(t, err, "42P07", "TABLE s.old")
}
