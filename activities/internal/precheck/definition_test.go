package precheck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// of gives the pair a definition: what it leaves out gets its defaults.
func (p *pair) of(change func(*migration.Spec)) *pair {
	id := p.spec.ID
	p.spec = migration.Spec{ID: id, Name: "shop"}
	change(&p.spec)
	p.spec.Defaults()
	p.spec.Parallel = migration.Parallel{Copy: 2, Index: 2}
	return p
}

func (r report) mustLack(t *testing.T, codes ...string) {
	t.Helper()
	for _, code := range codes {
		for _, item := range r {
			if item.Code == code {
				t.Errorf("%s was looked at: %s", code, item.Found)
			}
		}
	}
}

// Who only copies must not be told to change wal_level, and who brings the tables needs no pg_dump.
func TestChecksFollowTheTypes(t *testing.T) {
	t.Parallel()
	p := between(t, pgtest.Server(t, pgtest.Setting("wal_level", "replica"), pgtest.Setting("max_replication_slots", "0"),
		pgtest.Setting("max_wal_senders", "0")), pgtest.Shared(t))
	p.source.Exec(t, `create table a (id int primary key); create table nokey (id int)`)
	changes := []string{
		"WAL_LEVEL", "REPLICATION_SLOTS", "WAL_SENDERS", "SLOT_ROOM", "IDLE_SLOT_TIMEOUT", "OWN_SLOT", "PREPARED_TRANSACTIONS",
		"LONG_TRANSACTIONS", "REPLICATION_RIGHT", "PUBLICATION_RIGHT", "FENCE_RIGHT", "TABLES_WITHOUT_KEY", "DEFERRABLE_KEYS",
		"UNLOGGED_TABLES", "REPLICA_IDENTITY", "OPERATIONS",
	}
	schema := []string{
		"DUMP_VERSION", "FOREIGN_TABLES", "RULES_ON_TABLES", "C_FUNCTIONS", "ROLES", "EXTENSIONS", "COLLATIONS", "EVENT_TRIGGERS",
		"TARGET_SAME_TABLES", "TARGET_SAME_OBJECTS", "NAMES_IN_CODE", "OBJECTS_LEFT_OUT",
	}
	both := []string{"SEQUENCES_BEHIND", "REPLICA_ROLE", "LARGE_OBJECTS", "FILTERS", "TRANSFORM"}

	for _, types := range [][]migration.Type{{migration.TypeSchema}, {migration.TypeSchema, migration.TypeFull}} {
		items := p.of(func(s *migration.Spec) { s.Types = types }).check(t)
		items.mustLack(t, changes...)
		items.mustPass(t, schema...)
		items.mustLack(t, "CONFLICTING_TABLES", "SEQUENCES")
		for _, item := range items {
			if item.Blocks() {
				t.Errorf("%v: %s: %s", types, item.Code, item.Found)
			}
		}
	}
	p.of(func(s *migration.Spec) { s.Types = []migration.Type{migration.TypeSchema} }).check(t).mustLack(t, both...)

	p.target.Exec(t, `create table a (id int primary key); create table nokey (id int)`)
	items := p.of(func(s *migration.Spec) { s.Types = []migration.Type{migration.TypeFull} }).check(t)
	items.mustLack(t, append(changes, schema...)...)
	items.mustPass(t, append(both, "CONFLICTING_TABLES", "SEQUENCES")...)
	items = p.of(func(s *migration.Spec) { s.Types = []migration.Type{migration.TypeIncremental} }).check(t)
	items.mustLack(t, append(schema, "SLOT_ROOM")...)
	items.mustBe(t, "WAL_LEVEL", migration.ItemFailed)
	items.mustBe(t, "TABLES_WITHOUT_KEY", migration.ItemAlert, "public.nokey", "cutover is refused")
}

// What is not selected is nobody's business.
func TestOnlySelectedTablesAreLookedAt(t *testing.T) {
	t.Parallel()
	role, reader := newRole(t, pgtest.Shared(t), "replication"), newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.sourceRole = role
	p.source.Exec(t, fmt.Sprintf(`
		create schema mine; create schema theirs; grant usage on schema mine to %[1]s;
		create table mine.a (id int primary key); alter table mine.a owner to %[1]s;
		create table theirs.nokey (v text collate "de-x-icu");
		create table theirs.deferred (id int primary key deferrable);
		create unlogged table theirs.cache (id serial primary key); insert into theirs.cache values (9);
		create rule quiet as on update to theirs.nokey do also nothing;
		create policy p on theirs.nokey to %[2]s using (true);
		create function theirs.c() returns int language c as '$libdir/plpgsql', 'plpgsql_call_handler';
		create extension hstore schema theirs; create extension postgres_fdw schema theirs;
		create server s foreign data wrapper postgres_fdw; create foreign table theirs.far (id int) server s`, role, reader))
	apply(t, p.source, fmt.Sprintf(`grant create on database "%s" to %s;`, p.source.Name, role))
	p.target.Exec(t, `create schema theirs; create table theirs.nokey (id int); create view theirs.v as select 1 as one;
		delete from pg_collation where collname = 'de-x-icu'`)
	p.source.Exec(t, `create view theirs.v as select 1 as one`)
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Schema: "mine"}} })
	besides := p.check(t).mustBe(t, "SOURCE_SELECT", migration.ItemFailed, "theirs.nokey (which pg_dump reads)")
	apply(t, p.source, besides.Fix)
	items := p.check(t)
	items.mustPass(t, "SOURCE_SELECT", "PUBLICATION_RIGHT", "FENCE_RIGHT", "TABLES_WITHOUT_KEY", "DEFERRABLE_KEYS", "UNLOGGED_TABLES",
		"RULES_ON_TABLES", "FOREIGN_TABLES", "C_FUNCTIONS", "SEQUENCES_BEHIND", "ROLES", "EXTENSIONS", "COLLATIONS", "EVENT_TRIGGERS",
		"TARGET_SAME_TABLES", "TARGET_SAME_OBJECTS", "SELECTION", "OBJECTS_LEFT_OUT")
	for _, item := range items {
		if item.Blocks() {
			t.Errorf("%s: %s", item.Code, item.Found)
		}
	}
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Schema: "mine"}, {Schema: "theirs"}} })
	items = p.check(t)
	items.mustBe(t, "COLLATIONS", migration.ItemFailed, "de-x-icu")
	items.mustBe(t, "TARGET_SAME_TABLES", migration.ItemFailed, "theirs.nokey")
	items.mustBe(t, "TARGET_SAME_OBJECTS", migration.ItemFailed, "view theirs.v")
	items.mustBe(t, "C_FUNCTIONS", migration.ItemAlert, "theirs.c")
	items.mustBe(t, "FOREIGN_TABLES", migration.ItemNotice, "theirs.far")
}

// A selected table brings what it needs, also from a schema that is not selected.
func TestWhatSelectedTablesNeedIsLookedAt(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create schema lib; create schema mine;
		create extension citext schema lib; create extension hstore schema lib;
		create type lib.mood as enum ('a'); create type lib.other as enum ('a');
		create domain lib.word as lib.citext check (length(value::text) > 0);
		create type lib.pair as (mood lib.mood, n int);
		create function lib.start() returns int language sql as 'select 1';
		create function lib.unused() returns int language sql as 'select 1';
		create table mine.a (id int primary key default lib.start(), w lib.word, p lib.pair[])`)
	p.target.Exec(t, `
		create schema lib; create type lib.mood as enum ('a'); create type lib.other as enum ('a');
		create function lib.start() returns int language sql as 'select 1';
		create function lib.unused() returns int language sql as 'select 1'`)
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "mine.a"}} })
	items := p.check(t)
	same := items.mustBe(t, "TARGET_SAME_OBJECTS", migration.ItemFailed, "type lib.mood", "function lib.start()")
	if strings.Contains(same.Found, "lib.other") || strings.Contains(same.Found, "lib.unused") {
		t.Errorf("objects that no table needs: %s", same.Found)
	}
	items.mustBe(t, "EXTENSIONS", migration.ItemPassed, "all 1 are available")
	apply(t, p.target, same.Fix)
	p.check(t).mustPass(t, "TARGET_SAME_OBJECTS")
}

// An entry that means nothing is a slip of the pen, and what was meant would stay behind.
func TestSelectionThatMeansNothing(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table orders (id int primary key, note text not null, v int)`)
	p.of(func(s *migration.Spec) {
		s.Objects = []migration.Object{{Table: "public.oders"}, {Table: "public.orders"}}
	})
	p.check(t).mustBe(t, "SELECTION", migration.ItemFailed, "public.oders")
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.orders"}} })
	p.check(t).mustPass(t, "SELECTION", "COLUMNS", "NAMES", "FOREIGN_KEY_PARENTS")
}

func TestColumnsThatCannotBeLeftOut(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table orders (id int primary key, note text not null, v int)`)
	choose := func(c migration.Columns) report {
		p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.orders", Columns: c}} })
		return p.check(t)
	}
	choose(migration.Columns{Exclude: []string{"id"}}).mustBe(t, "COLUMNS", migration.ItemFailed, "public.orders", "id")
	choose(migration.Columns{Exclude: []string{"nothing"}}).mustBe(t, "COLUMNS", migration.ItemFailed, "public.orders", "nothing")
	choose(migration.Columns{Exclude: []string{"v"}}).mustPass(t, "COLUMNS")
}

func TestNamesThatCollideOrAreTooLong(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table a (id int primary key); create table b (id int primary key); create table "A" (id int primary key)`)
	for name, objects := range map[string][]migration.Object{
		"collision": {{Table: "public.a", Rename: "c"}, {Table: "public.b", Rename: "c"}},
		"length":    {{Table: "public.a", Rename: strings.Repeat("x", 64)}},
	} {
		p.of(func(s *migration.Spec) { s.Objects = objects })
		if item := p.check(t).item(t, "NAMES"); item.State != migration.ItemFailed || item.Fix == "" {
			t.Errorf("%s: %+v", name, item)
		}
	}
	p.of(func(s *migration.Spec) { s.Names.Case = migration.CaseLower }).check(t).mustBe(t, "NAMES", migration.ItemFailed, "public.A")
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.a", Rename: "c"}} }).check(t).mustPass(t, "NAMES")
}

// A child whose parent stays behind would lose its foreign key, or fail after the copy.
func TestChildWithoutItsParent(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table parent (id int primary key); create table child (id int primary key, parent int references parent)`)
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.child"}} })
	p.check(t).mustBe(t, "FOREIGN_KEY_PARENTS", migration.ItemFailed, "public.child", "public.parent")
	p.of(func(s *migration.Spec) {
		s.Objects = []migration.Object{{Table: "public.child"}, {Table: "public.parent"}}
	})
	p.check(t).mustPass(t, "FOREIGN_KEY_PARENTS")
}

// Views and triggers that silently stay behind are missed after the cutover.
func TestWhatASelectionOfTablesLeavesOut(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create function brought() returns int language sql as 'select 1';
		create table a (id int primary key default brought()); create view seen as select * from a;
		create function touch() returns trigger language plpgsql as 'begin return new; end';
		create trigger touched before update on a for each row execute function touch()`)
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.a"}} })
	item := p.check(t).mustBe(t, "OBJECTS_LEFT_OUT", migration.ItemNotice, "view public.seen", "function public.touch", "trigger public.touched on a")
	if strings.Contains(item.Found, "brought") {
		t.Errorf("what a default needs is brought: %s", item.Found)
	}
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Schema: "public"}} }).check(t).mustPass(t, "OBJECTS_LEFT_OUT")
}

// A function's body is a text in which nobody can follow a name; after the cutover it would fail.
func TestCodeThatNamesWhatIsRenamed(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create table orders (id int primary key, amount int); create table other (id int primary key);
		create function total() returns bigint language plpgsql as 'begin return (select sum(amount) from public.orders); end';
		create function dynamic() returns void language plpgsql as 'begin execute ''delete from orders''; end';
		create function harmless() returns bigint language sql as 'select count(*) from other';
		create function tree() returns bigint language sql begin atomic select count(*) from orders; end`)
	p.of(func(s *migration.Spec) {
		s.Objects, s.EverythingElse = []migration.Object{{Table: "public.orders", Rename: "sales"}}, migration.IncludeElse
	})
	item := p.check(t).mustBe(t, "NAMES_IN_CODE", migration.ItemAlert, "public.total (orders)", "public.dynamic (orders)")
	if strings.Contains(item.Found, "harmless") || strings.Contains(item.Found, "tree") || !item.Ignorable {
		t.Errorf("%+v", item)
	}
	p.of(func(s *migration.Spec) {
		s.Objects, s.EverythingElse = []migration.Object{{Table: "public.orders", Columns: migration.Columns{Rename: map[string]string{"amount": "sum"}}}}, migration.IncludeElse
	})
	p.check(t).mustBe(t, "NAMES_IN_CODE", migration.ItemAlert, "public.total (amount)")
	p.of(func(*migration.Spec) {}).check(t).mustPass(t, "NAMES_IN_CODE")
	p.source.Exec(t, `drop function total; drop function dynamic`)
	p.of(func(s *migration.Spec) {
		s.Objects, s.EverythingElse = []migration.Object{{Table: "public.orders", Rename: "sales"}}, migration.IncludeElse
	})
	p.check(t).mustPass(t, "NAMES_IN_CODE")
}

// What is not applied on purpose is said, with what it means for verification.
func TestOperationsThatAreLeftOut(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table a (id int primary key); create table b (id int primary key)`)
	p.check(t).mustPass(t, "OPERATIONS")
	p.of(func(s *migration.Spec) {
		s.Objects, s.EverythingElse = []migration.Object{{Table: "public.a", Operations: migration.Operations{"insert", "update"}}}, migration.IncludeElse
	})
	item := p.check(t).mustBe(t, "OPERATIONS", migration.ItemNotice, "public.a (delete, truncate)", "verification")
	if strings.Contains(item.Found, "public.b") {
		t.Errorf("%s", item.Found)
	}
}

// Names of the target are looked for on the target.
func TestSameNamesAfterRenaming(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create schema app; create type app.mood as enum ('a'); create sequence app.q;
		create table app.a (id serial primary key); create view app.v as select 1 as one;
		create function app.f(app.mood[], app.a) returns int language sql as 'select 1'`)
	p.target.Exec(t, `create schema app; create table app.a (id int); create type app.mood as enum ('a'); create sequence app.q`)
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Schema: "app", Rename: "shop"}} })
	p.check(t).mustPass(t, "TARGET_SAME_TABLES", "TARGET_SAME_OBJECTS")
	p.target.Exec(t, `
		create schema shop; create type shop.mood as enum ('a'); create table shop.a (id int); create sequence shop.a_id_seq; create sequence shop.q;
		create view shop.v as select 1 as one; create function shop.f(shop.mood[], shop.a) returns int language sql as 'select 1';
		create function shop.f(int) returns int language sql as 'select 1'`)
	items := p.check(t)
	items.mustBe(t, "TARGET_SAME_TABLES", migration.ItemFailed, "1 table", "shop.a")
	item := items.mustBe(t, "TARGET_SAME_OBJECTS", migration.ItemFailed, "5 objects", "type shop.mood", "sequence shop.q", "sequence shop.a_id_seq",
		"view shop.v", "function shop.f(shop.mood[],shop.a)")
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "TARGET_SAME_OBJECTS")
}
