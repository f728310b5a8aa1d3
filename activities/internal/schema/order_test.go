package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/tests/pgtest"
)

// Who leaves an object out by its title or its number must not lose another, and must find it in the report.
func TestObjectsAreLeftOutByTitleOrNumber(t *testing.T) {
	t.Parallel()
	m := newMove(t, twoTables)
	m.load(t)
	number := pgtest.Value[string](t, m.target, "select no::text from dts_sync.object where name = 'b_a_fkey' or name = 'b b_a_fkey'")
	opt := schema.Options{Skip: []string{"VIEW s.over", number, "VIEW s.nowhere"}}
	if _, _, err := schema.Create(t.Context(), m.cfg, schema.Before, opt); err != nil {
		t.Fatal(err)
	}
	m.create(t, everything...)
	mustList(t, "skipped", ledgerOf(t, m, "skipped"), "VIEW s.over", "VIEW s.over_over", "FK CONSTRAINT s.b b_a_fkey")
	main, err := m.led.Read(t.Context())
	if notes := strings.Join(main.Notes, "\n"); err != nil || !strings.Contains(notes, "left out: VIEW s.over: by order") {
		t.Errorf("notes are %q, error %v", main.Notes, err)
	}
	if _, _, err := schema.Create(t.Context(), m.cfg, schema.Constraint, schema.Options{Skip: []string{"TABLE s.a"}}); err != nil {
		t.Fatal(err)
	}
	if state := pgtest.Value[string](t, m.target, "select state from dts_sync.object where kind = 'TABLE' and name = 'a'"); state != "done" {
		t.Errorf("what is done is %s", state)
	}
}

// What a person needs to mend an object stands in the ledger: SQL, state, message and the server's hint.
func TestAFailureIsToldWithEverythingTheServerSaid(t *testing.T) {
	t.Parallel()
	m := newMove(t, `create schema s; create function s.f(int) returns text language sql as 'select ''x'''; create view s.v as select s.f(1) as t; create table s.ok (id int)`)
	m.target.Exec(t, "create schema s; create function s.f(bigint) returns text language sql as 'select 1::text'")
	m.load(t)
	m.target.Exec(t, "update dts_sync.object set state = 'done' where kind = 'FUNCTION'")
	m.target.Exec(t, "drop function s.f(bigint)")
	_, _, err := schema.Create(t.Context(), m.cfg, schema.Before, schema.Options{})
	mustFail(t, err, "42883", "VIEW s.v")
	found, err := m.led.ObjectStatuses(t.Context(), 10, "failed", "skipped")
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, error %v", found, err)
	}
	o := found[0]
	if o.Title() != "VIEW s.v" || o.SQLState != "42883" || !strings.Contains(o.DDL, "CREATE VIEW s.v") || !strings.Contains(o.Hint, "No function matches") ||
		!strings.Contains(o.Message, "does not exist") || o.Section != "before" || o.State != "failed" || o.No == 0 {
		t.Errorf("found %+v", o)
	}
	all, err := m.led.ObjectStatuses(t.Context(), 2)
	if err != nil || len(all) != 2 || all[0].State != "failed" {
		t.Errorf("all but two: %v, error %v", all, err)
	}
	m.target.Exec(t, "create function s.f(int) returns text language sql as 'select ''x'''")
	m.create(t, everything...)
	if left := pgtest.Value[int](t, m.target, "select count(*) from dts_sync.object where hint is not null or message <> '' and kind <> 'SCHEMA'"); left != 0 {
		t.Errorf("%d objects still say why they failed", left)
	}
}

// In the middle of a hundred that go together, one that fails is named, and the others are there.
func TestOneOfManyFailsAlone(t *testing.T) {
	t.Parallel()
	m := newMove(t, "do $$ begin for i in 1..250 loop execute format('create table t_%s (id int)', i); end loop; end $$")
	m.target.Exec(t, "create table public.t_77 (other int)")
	m.load(t)
	counts, _, err := schema.Create(t.Context(), m.cfg, schema.Before, schema.Options{})
	mustFail(t, err, "42P07", "TABLE public.t_77")
	if counts.Failed != 1 || counts.Done < 249 {
		t.Errorf("counts are %+v", counts)
	}
	m.target.Exec(t, "drop table public.t_77")
	m.create(t, everything...)
	m.mustBeEqual(t)
}

// A password must not be stored where everybody who may read the ledger can read it.
func TestNoPasswordStaysInTheLedger(t *testing.T) {
	t.Parallel()
	m := newMove(t, `create extension postgres_fdw; create server elsewhere foreign data wrapper postgres_fdw options (host 'localhost');
		create user mapping for public server elsewhere options (user 'x', password 'top''sec\ret');
		create server open foreign data wrapper postgres_fdw; create user mapping for public server open options (user 'x')`)
	m.load(t)
	m.create(t, everything...)
	if n := pgtest.Value[int](t, m.target, "select count(*) from dts_sync.object o where o::text like '%top%sec%'"); n != 0 {
		t.Errorf("%d objects hold the password", n)
	}
	mustList(t, "skipped", ledgerOf(t, m, "skipped"), "USER MAPPING USER MAPPING public SERVER elsewhere")
	if n := pgtest.Value[int](t, m.target, "select count(*) from pg_user_mappings"); n != 1 {
		t.Errorf("%d user mappings", n)
	}
	main, err := m.led.Read(t.Context())
	if err != nil || len(main.Notes) != 1 || !strings.Contains(main.Notes[0], "password") || strings.Contains(main.Notes[0], "sec") {
		t.Errorf("notes are %q, error %v", main.Notes, err)
	}
}

// Grants to roles that the target does not have are told, and cost neither the other grants nor the migration.
func TestGrantsSurviveAMissingRole(t *testing.T) {
	t.Parallel()
	from, to := pgtest.Shared(t), pgtest.Server(t)
	m := newMoveBetween(t, from, to, "")
	id := m.cfg.Lane.ID.Short()
	known, lost := "known_"+id, "lost "+id
	for _, sql := range []string{fmt.Sprintf("create role %s", known), fmt.Sprintf("create role %q", lost)} {
		m.source.Exec(t, sql)
	}
	m.target.Exec(t, "create role "+known)
	t.Cleanup(func() {
		dropRole(t, &move{target: m.source}, known)
		dropRole(t, &move{target: m.source}, fmt.Sprintf("%q", lost))
	})
	m.source.Exec(t, fmt.Sprintf(`create schema s; create table s.a (id int, v text); create table s.b (id int); create table s.c (id int); create function s.f() returns int language sql as 'select 1';
		grant usage on schema s to %[1]s, %[2]q; grant select on s.a to %[1]s with grant option; grant insert on s.a to %[2]q; grant update (v) on s.a to %[1]s;
		grant select on s.b to %[2]q; revoke all on function s.f() from public; grant execute on function s.f() to %[1]s;
		alter default privileges in schema s grant select on tables to %[1]s; alter default privileges in schema s grant select on sequences to %[2]q;
		alter table s.c owner to %[2]q`, known, lost))
	m.cfg.Spec.Schema.Grants, m.cfg.Spec.Schema.Owner = true, "keep"
	m.load(t)
	m.create(t, everything...)
	mustList(t, "skipped", ledgerOf(t, m, "skipped"), "ACL s.TABLE b", "DEFAULT ACL s.DEFAULT PRIVILEGES FOR SEQUENCES")
	granted := m.target.Query(t, `select has_table_privilege($1, 's.a', 'select with grant option'), has_column_privilege($1, 's.a', 'v', 'update'), has_function_privilege($1, 's.f()', 'execute'),
		has_schema_privilege($1, 's', 'usage'), (select count(*) from pg_default_acl), has_table_privilege($1, 's.a', 'insert')`, known)
	if want := "[[t t t t 1 f]]"; fmt.Sprint(granted) != want {
		t.Errorf("granted is %v, want %s", granted, want)
	}
	main, err := m.led.Read(t.Context())
	notes := strings.Join(main.Notes, "\n")
	for _, note := range []string{"grants to role " + lost, "1 objects of role " + lost, "ACL s.TABLE b"} {
		if err != nil || !strings.Contains(notes, note) {
			t.Errorf("no note says %q: %s, error %v", note, notes, err)
		}
	}
}
