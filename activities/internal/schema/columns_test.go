package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const wide = `
create schema s;
create type s.mood as enum ('a');
create sequence s.shared;
create table s.a (id int primary key, kept text, gone int default 7, serial_gone serial, ident_gone int generated always as identity,
    twice int generated always as (gone * 2) stored, fine int generated always as (id * 2) stored, mood_gone s.mood, code_gone text unique,
    check (gone > 0), check (length(kept) > 0));
create index a_gone on s.a (gone); create index a_expression on s.a ((gone + 1)) where id > 0; create index a_kept on s.a (kept); create index a_covering on s.a (id) include (gone);
create table s.child (id int primary key, code text references s.a (code_gone), next int default nextval('s.a_serial_gone_seq'));
create view s.reads as select id, gone from s.a; create view s.over_reads as select id from s.reads; create view s.fine as select id, kept from s.a;
create function s.stamp() returns trigger language plpgsql as 'begin return new; end';
create trigger on_gone before update of gone on s.a for each row execute function s.stamp();
create trigger when_gone before update on s.a for each row when (old.gone <> new.gone) execute function s.stamp();
create trigger fine before update on s.a for each row execute function s.stamp();
alter table s.a enable row level security;
create policy on_gone on s.a using (gone > 0); create policy fine on s.a using (id > 0);
create statistics s.on_gone on id, gone from s.a; create statistics s.fine on id, kept from s.a;
create rule on_gone as on insert to s.a where new.gone > 5 do also nothing;
comment on column s.a.gone is 'gone'; comment on index s.a_gone is 'gone'; comment on column s.a.kept is 'kept';
create function s.atomic() returns bigint begin atomic select sum(gone) from s.a; end;
create table s.root (id int, at date, gone text, primary key (id, at)) partition by range (at);
create table s.leaf partition of s.root for values from (minvalue) to (maxvalue);
create index root_gone on s.root (gone); create index root_at on s.root (at);
create table s.base (id int, gone int); create table s.heir (extra int, gone int) inherits (s.base); create index heir_gone on s.heir (gone);
`

// What needs a column that is left out is left out with the reason; everything else is there without the column.
func TestWhatNeedsALeftOutColumnIsLeftOutWithTheReason(t *testing.T) {
	t.Parallel()
	m := newMove(t, wide).wants(migration.Object{Schema: "s"},
		migration.Object{Table: "s.a", Columns: migration.Columns{Exclude: []string{"*gone"}}},
		migration.Object{Table: "s.root", Columns: migration.Columns{Exclude: []string{"gone"}}},
		migration.Object{Table: "s.base", Columns: migration.Columns{Exclude: []string{"gone"}}})
	m.load(t)
	m.create(t, everything...)
	column := func(name string) string { return "needs column s." + name + ", which is left out" }
	want := map[string]string{
		"INDEX s.a_gone": column("a.gone"), "INDEX s.a_expression": column("a.gone"), "INDEX s.a_covering": column("a.gone"),
		"CONSTRAINT s.a a_code_gone_key": column("a.code_gone"), "FK CONSTRAINT s.child child_code_fkey": column("a.code_gone"),
		"VIEW s.reads": column("a.gone"), "VIEW s.over_reads": "needs VIEW s.reads, which is left out",
		"TRIGGER s.a on_gone": column("a.gone"), "TRIGGER s.a when_gone": column("a.gone"), "POLICY s.a on_gone": column("a.gone"),
		"STATISTICS s.on_gone": column("a.gone"), "RULE s.a on_gone": column("a.gone"), "FUNCTION s.atomic()": column("a.gone"),
		"COMMENT s.INDEX a_gone": "needs INDEX s.a_gone, which is left out",
		"INDEX s.root_gone":      column("root.gone"), "INDEX s.leaf_gone_idx": column("leaf.gone"),
		"INDEX ATTACH s.leaf_gone_idx": "needs INDEX s.leaf_gone_idx, which is left out",
		"INDEX s.heir_gone":            column("heir.gone"),
	}
	got := map[string]string{}
	for _, row := range m.target.Query(t, "select kind || ' ' || schema || '.' || name, message from dts_sync.object where state <> 'done'") {
		got[row[0]] = row[1]
	}
	for title, reason := range want {
		if got[title] != reason {
			t.Errorf("%s: %q, want %q", title, got[title], reason)
		}
		delete(got, title)
	}
	if len(got) > 0 {
		t.Errorf("left out too: %v", got)
	}
	columns := m.target.Query(t, `select c.relname, string_agg(a.attname, ' ' order by attnum) from pg_class c join pg_attribute a on a.attrelid = c.oid
		where c.relnamespace = 's'::regnamespace and c.relkind in ('r', 'p') and attnum > 0 and not attisdropped group by 1 order by 1`)
	if want := "[[a id kept fine] [base id] [child id code next] [heir id extra] [leaf id at] [root id at]]"; fmt.Sprint(columns) != want {
		t.Errorf("columns are %v, want %s", columns, want)
	}
	for what, count := range map[string]string{
		"checks":            "select count(*) - 1 from pg_constraint where conrelid = 's.a'::regclass and contype = 'c'",
		"a shared sequence": "select count(*) - 1 from pg_class where relname = 'a_serial_gone_seq'",
		"other sequences":   "select count(*) from pg_class where relname = 'a_ident_gone_seq'",
	} {
		if n := pgtest.Value[int](t, m.target, count); n != 0 {
			t.Errorf("%s: %d too many", what, n)
		}
	}
	main, err := m.led.Read(t.Context())
	if notes := strings.Join(main.Notes, "\n"); err != nil || !strings.Contains(notes, "column s.a.twice: it is computed from gone") {
		t.Errorf("notes are %q, error %v", main.Notes, err)
	}
}

// A view that cannot be made yet must not find the columns changed when its time comes.
func TestColumnsWaitForWhatReadsThem(t *testing.T) {
	t.Parallel()
	m := newMove(t, "create schema s; create table s.a (id int primary key, v text); create view s.over as select id from s.a; create view s.fine as select v from s.a").wants(
		migration.Object{Schema: "s"}, migration.Object{Table: "s.a", Columns: migration.Columns{Rename: map[string]string{"id": "no"}}})
	m.target.Exec(t, "create schema s; create view s.over as select 1 as one")
	m.load(t)
	_, _, err := schema.Create(t.Context(), m.cfg, schema.Before, schema.Options{})
	mustFail(t, err, "42P07", "VIEW s.over")
	if n := pgtest.Value[int](t, m.target, "select count(*) from pg_attribute where attrelid = 's.a'::regclass and attname = 'id'"); n != 1 {
		t.Fatal("the columns have their new names although the view is not there")
	}
	m.target.Exec(t, "drop view s.over")
	m.create(t, everything...)
	m.mustBeDone(t)
	m.target.Exec(t, "alter table s.a rename no to id")
	m.mustBeEqual(t)
}

// What a person, or the definition, leaves out must not keep the columns from being changed.
func TestColumnsDoNotWaitForWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]schema.Options{"by order": {Skip: []string{"VIEW s.over"}}, "as failed": {SkipFailed: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMove(t, "create schema s; create table s.a (id int primary key, v text); create view s.over as select id from s.a").wants(
				migration.Object{Schema: "s"}, migration.Object{Table: "s.a", Columns: migration.Columns{Rename: map[string]string{"id": "no"}}})
			m.target.Exec(t, "create schema s; create view s.over as select 1 as one")
			m.load(t)
			if _, _, err := schema.Create(t.Context(), m.cfg, schema.Before, opt); err != nil {
				t.Fatal(err)
			}
			m.create(t, everything...)
			mustList(t, "skipped", ledgerOf(t, m, "skipped"), "VIEW s.over")
			if n := pgtest.Value[int](t, m.target, "select count(*) from pg_attribute where attrelid = 's.a'::regclass and attname = 'no'"); n != 1 {
				t.Error("the column has its old name")
			}
		})
	}
}
