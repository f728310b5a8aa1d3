package schema_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// tangled refers to its tables and columns from everything that can.
const tangled = `
create schema app; create schema lib;
create type app.state as enum ('new', 'old');
create domain app.amount as numeric check (value >= 0);
create sequence app.numbers;
create function lib.stamp() returns trigger language plpgsql as 'begin return new; end';
create table app.customer (id serial primary key, name text not null, email text unique, boss int, constraint named check (name <> ''));
alter table app.customer add foreign key (boss) references app.customer deferrable initially deferred;
create table app.orders (id bigint primary key default nextval('app.numbers'), customer int not null references app.customer on delete cascade,
    status app.state default 'new', total app.amount, tax numeric, note text, unique (customer, note));
create index orders_total on app.orders (total) include (tax) where tax > 0;
create index orders_expression on app.orders (lower(note), (coalesce(total, 0) + tax));
create statistics app.orders_stats on status, total from app.orders;
create table app.booking (room int, during int4range, id int primary key, exclude using gist (during with &&) where (room > 0));
create table app.event (at date, kind text, id int, customer int references app.customer, primary key (at, kind, id)) partition by range (at);
create table app.event_old partition of app.event for values from (minvalue) to ('2024-01-01') partition by list (kind);
create table app.event_old_a partition of app.event_old for values in ('a');
create table app.event_new partition of app.event for values from ('2024-01-01') to (maxvalue);
create index event_kind on app.event (kind);
create index event_new_only on app.event_new (customer);
create table app.animal (id int, name text, legs int check (legs >= 0));
create table app.bird (wings int, legs int, unique (name)) inherits (app.animal);
create view app.open_orders as select o.id, o.total, c.name from app.orders o join app.customer c on c.id = o.customer where o.status = 'new';
create view app.checked as select id, total from app.orders where total > 0 with check option;
create view app.bare as select id, customer.name from app.customer where email is not null;
create view app.by_key as select orders.id, orders.note, count(*) as n from app.orders group by orders.id;
create materialized view app.totals as select customer, sum(total) as total from app.orders group by customer;
create unique index totals_customer on app.totals (customer);
create view app.over_totals as select t.total from app.totals t;
create rule orders_log as on insert to app.orders where new.total > 100 do also update app.customer set boss = null where id = new.customer;
create rule open_update as on update to app.open_orders do instead update app.orders set total = new.total where id = old.id;
create trigger stamp before insert or update of total, note on app.orders for each row when (new.total > 0) execute function lib.stamp();
create trigger stamp_event after insert on app.event for each row execute function lib.stamp();
create trigger stamp_always before update on app.customer for each row execute function lib.stamp();
alter table app.customer enable always trigger stamp_always;
alter table app.orders enable row level security;
create policy own on app.orders for select using (exists (select from app.customer c where c.id = customer and c.email = current_user)) ;
create policy small on app.orders as restrictive for insert with check (total < 1000);
alter table app.customer replica identity using index customer_pkey;
alter table app.orders add constraint late check (tax >= 0) not valid;
alter table app.orders cluster on orders_pkey;
create function app.count_of(app.orders) returns bigint language sql as 'select $1.id';
comment on table app.orders is 'orders'; comment on column app.orders.total is 'sum'; comment on index app.orders_total is 'index';
comment on constraint named on app.customer is 'check'; comment on view app.bare is 'view'; comment on trigger stamp on app.orders is 'trigger';
comment on policy small on app.orders is 'policy'; comment on rule orders_log on app.orders is 'rule'; comment on materialized view app.totals is 'stored';
`

// ownAlias is what the rewriting leaves: a table that is read without an alias keeps its old name as one.
var ownAlias = regexp.MustCompile(`((?:FROM|JOIN|UPDATE|INTO|\() ?\(*(?:ONLY )?\w+\.(\w+)) (\w+)`)

func (m *move) mustBeEqualBut(t *testing.T, options ...string) {
	t.Helper()
	normal := func(dump string) string {
		return ownAlias.ReplaceAllStringFunc(dump, func(text string) string {
			match := ownAlias.FindStringSubmatch(text)
			if match[2] == match[3] {
				return match[1]
			}
			return text
		})
	}
	source, target := normal(dumpOf(t, m.source, options...)), normal(dumpOf(t, m.target, options...))
	if source != target {
		t.Fatalf("schemas differ:\n%s", diff(t, source, target))
	}
	if len(source) < 5000 {
		t.Fatalf("a dump of %d bytes compares nothing", len(source))
	}
}

// renamedAll renames a schema, tables singly and by a pattern, and columns.
var renamedAll = []migration.Object{
	{Schema: "app", Rename: "shop"},
	{Schema: "lib"},
	{Table: "app.customer", Rename: "client", Columns: migration.Columns{Rename: map[string]string{"id": "client_id", "name": "full name", "email": "boss", "boss": "email"}}},
	{Table: "app.orders", Rename: "Sales Order", Columns: migration.Columns{Rename: map[string]string{"total": "sum", "customer": "client"}}},
	{Table: "app.event*", Rename: "log$1"},
	{Table: "app.event", Rename: "log", Columns: migration.Columns{Rename: map[string]string{"customer": "client", "id": "no"}}},
	{Table: "app.animal", Columns: migration.Columns{Rename: map[string]string{"legs": "feet"}}},
	{Table: "app.booking", Rename: "lib.reservation"},
}

// renamedBack undoes all of it in the target, by the server itself: then it must be what the source is.
const renamedBack = `
alter table shop.client rename client_id to id; alter table shop.client rename "full name" to name;
alter table shop.client rename boss to x; alter table shop.client rename email to boss; alter table shop.client rename x to email;
alter table shop."Sales Order" rename sum to total; alter table shop."Sales Order" rename client to customer;
alter table shop.log rename client to customer; alter table shop.log rename no to id;
alter table shop.animal rename feet to legs;
alter table shop.client rename to customer; alter table shop."Sales Order" rename to orders;
alter table shop.log rename to event; alter table shop.log_old rename to event_old; alter table shop.log_old_a rename to event_old_a;
alter table shop.log_new rename to event_new;
alter table lib.reservation rename to booking; alter table lib.booking set schema shop;
alter schema shop rename to app;
`

func TestEveryReferenceFollowsTheNewNames(t *testing.T) {
	t.Parallel()
	for _, replicaRole := range []bool{true, false} {
		t.Run(fmt.Sprint("replica role ", replicaRole), func(t *testing.T) {
			t.Parallel()
			m := newMove(t, tangled).wants(renamedAll...)
			m.target.Exec(t, "update dts_sync.migration set replica_role = $1", replicaRole)
			m.load(t)
			m.create(t, everything...)
			m.mustBeDone(t)
			m.target.Exec(t, renamedBack)
			m.mustBeEqualBut(t)
		})
	}
}

// mustBeDone shows what is not.
func (m *move) mustBeDone(t *testing.T) {
	t.Helper()
	for _, row := range m.target.Query(t, "select kind, schema, name, state, message, ddl from dts_sync.object where state <> 'done' order by no") {
		t.Errorf("not done: %s", strings.Join(row, " "))
	}
}

func TestNewNamesCrossVersions(t *testing.T) {
	t.Parallel()
	old := pgtest.Server(t, pgtest.Major(10))
	m := newMoveBetween(t, old, pgtest.Shared(t), fixture(t, "testdata/old.sql")).wants(
		migration.Object{Schema: "shop", Rename: "store"},
		migration.Object{Table: "shop.customer", Rename: "client", Columns: migration.Columns{Rename: map[string]string{"id": "no"}}},
		migration.Object{Table: "shop.orders*", Rename: "sales$1"})
	m.load(t)
	m.create(t, everything...)
	m.mustBeDone(t)
	m.target.Exec(t, `alter table store.client rename no to id; alter table store.client rename to customer; alter table store.sales rename to orders;
		alter table store.sales_2024 rename to orders_2024; alter table store.sales_2025 rename to orders_2025; alter schema store rename to shop`)
	m.mustBeEqualBut(t, "--schema=shop")
}

// An attempt that dies anywhere is followed by one that ends the same, under new names too.
func TestDyingUnderNewNamesLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	m := newMove(t, tangled).wants(renamedAll...)
	m.dieOften(t, 1, 9, 30, 31, 3, 40, 12, 20, 33, 5)
	m.enter(t)
	m.load(t)
	m.create(t, everything...)
	m.mustBeDone(t)
	m.target.Exec(t, renamedBack)
	m.mustBeEqualBut(t)
}

// A migration that begins anew drops what it has made under the names that it has there, keeps what stands before the data,
// and makes again what somebody has dropped, although the columns have their new names already.
func TestBeginningAnewUnderNewNames(t *testing.T) {
	t.Parallel()
	m := newMove(t, tangled).wants(renamedAll...)
	m.load(t)
	m.create(t, everything...)
	m.undo(t)
	for left, count := range map[string]string{
		"indexes of tables": `select count(*) from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
			where n.nspname in ('shop', 'lib')`,
		"triggers": "select count(*) from pg_trigger where not tgisinternal", "policies": "select count(*) from pg_policy",
	} {
		if n := pgtest.Value[int](t, m.target, count); n != 0 {
			t.Errorf("%d %s are left", n, left)
		}
	}
	m.target.Exec(t, `drop view shop.open_orders; drop view shop.bare; drop table lib.reservation; drop table shop.log`)
	m.undo(t)
	m.create(t, everything...)
	m.mustBeDone(t)
	m.target.Exec(t, renamedBack)
	m.mustBeEqualBut(t)
}

// undo is what prepare does when a migration begins anew.
func (m *move) undo(t *testing.T) {
	t.Helper()
	m.enter(t)
	if err := schema.Undo(t.Context(), m.cfg); err != nil {
		t.Fatal(err)
	}
}

func TestNamesInAnotherCaseAreFollowed(t *testing.T) {
	t.Parallel()
	for policy, back := range map[migration.Case]string{
		migration.CaseDefault: `alter table "app one".items rename to "Items"; alter view "app one".seen rename to "Seen"; alter schema "app one" rename to "App One"`,
		migration.CaseUpper: `alter table "APP ONE"."ITEMS" rename to "Items"; alter view "APP ONE"."SEEN" rename to "Seen"; alter schema "APP ONE" rename to "App One";
			alter table "App One"."Items" rename "ID" to "Id"; alter table "App One"."Items" rename "OTHER" to other`,
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			m := newMove(t, `create schema "App One"; create type "App One"."Kind" as enum ('A'); create table "App One"."Items" ("Id" serial primary key, other "App One"."Kind");
				create view "App One"."Seen" as select "Items"."Id", other from "App One"."Items"; create index "By Other" on "App One"."Items" (other, "Id");
				create function "App One"."F"("App One"."Items") returns int language sql as 'select 1'`)
			m.cfg.Spec.Names.Case = policy
			m.cfg.Spec.Defaults()
			m.load(t)
			m.create(t, everything...)
			m.mustBeDone(t)
			m.target.Exec(t, back)
			source, target := dumpOf(t, m.source), dumpOf(t, m.target)
			if target = ownQuotedAlias.ReplaceAllString(target, "$1"); source != target {
				t.Fatalf("schemas differ:\n%s", diff(t, source, target))
			}
		})
	}
}

// ownQuotedAlias is the one table of the case tests under its own name.
var ownQuotedAlias = regexp.MustCompile(`("App One"\."Items") "Items"`)

// Owners, identities, access methods and what the migration itself adds are in the target's names too.
func TestWhatIsAddedToTheDumpIsUnderNewNamesToo(t *testing.T) {
	t.Parallel()
	m := newMove(t, "")
	role := "owner_" + m.cfg.Lane.ID.Short()
	m.source.Exec(t, fmt.Sprintf(`create role %[1]s; create schema s authorization %[1]s; set role %[1]s; create table s.a (id int primary key, b int);
		create function s.f(s.a) returns int language sql as 'select 1'; create type s.t as enum ('x'); create view s.v as select * from s.a;
		create operator s.|+| (leftarg = int, rightarg = int, function = int4pl)`, role))
	t.Cleanup(func() { dropRole(t, &move{target: m.source}, role) })
	t.Cleanup(func() { reassign(t, m, role) })
	m.cfg.Spec.Schema.Owner = "keep"
	m.wants(migration.Object{Schema: "s", Rename: "z"}, migration.Object{Table: "s.a", Rename: "other.c"})
	m.target.Exec(t, `update dts_sync.migration set identities = '[{"schema": "s", "name": "a", "identity": "n"}]'`)
	m.load(t)
	m.create(t, everything...)
	m.mustBeDone(t)
	got := m.target.Query(t, `select c.oid::regclass, pg_get_userbyid(relowner) = $1, relreplident from pg_class c
		where relkind in ('r', 'v') and relnamespace in ('z'::regnamespace, 'other'::regnamespace) order by 1::text`, role)
	if want := "[[other.c t n] [z.v t n]]"; fmt.Sprint(got) != want {
		t.Errorf("relations are %v, want %s", got, want)
	}
	if n := pgtest.Value[int](t, m.target, "select count(*) from pg_proc where proname = 'f' and pronamespace = 'z'::regnamespace and pg_get_userbyid(proowner) = $1", role); n != 1 {
		t.Errorf("%d functions", n)
	}
}
