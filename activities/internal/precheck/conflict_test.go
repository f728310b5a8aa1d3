package precheck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func types(types ...migration.Type) func(*migration.Spec) {
	return func(s *migration.Spec) { s.Types = types }
}

// Without the schema somebody else makes the tables, and what is in them would be mixed with what is copied.
func TestTablesMustExistAndBeEmptyWithoutTheSchema(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table a (id int primary key); create table "B" (id int primary key);
		create table c (id int primary key) partition by range (id); create table c1 partition of c for values from (0) to (10)`)
	p.of(types(migration.TypeFull, migration.TypeIncremental))
	p.check(t).mustBe(t, "CONFLICTING_TABLES", migration.ItemFailed, "public.B is not on the target", "public.a is not", "public.c is not",
		"add schema to types")
	p.target.Exec(t, `create table a (id int primary key); create table "B" (id int primary key); insert into "B" values (1);
		create table c (id int primary key) partition by range (id); create table c1 partition of c for values from (0) to (10);
		insert into c values (1)`)
	item := p.check(t).mustBe(t, "CONFLICTING_TABLES", migration.ItemFailed, "2 tables of the target hold rows", "public.B, public.c1",
		`truncate "public"."B";`, "conflict: ignore")
	if item.Ignorable {
		t.Error("rows of somebody else would be mixed with ours")
	}
	p.of(types(migration.TypeIncremental)).check(t).mustPass(t, "CONFLICTING_TABLES") // the rows are what the changes belong to
	p.of(types(migration.TypeFull, migration.TypeIncremental))
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "CONFLICTING_TABLES")
}

// With ignore the target's rows stay, which a person should have seen before.
func TestRowsThatAreKeptAreNamed(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table a (id int primary key); create table b (id int primary key); create view v as select 1 as one`)
	p.target.Exec(t, `create table a (id int primary key); insert into a select generate_series(1, 1000); analyze a`)
	p.of(func(s *migration.Spec) { s.Conflict = migration.ConflictIgnore })
	items := p.check(t)
	items.mustLack(t, "TARGET_SAME_TABLES")
	items.mustBe(t, "CONFLICTING_TABLES", migration.ItemNotice, "public.a (about 1000 rows)")
	items.mustPass(t, "TARGET_SAME_OBJECTS") // a_pkey belongs to a table that stays as it is
	p.target.Exec(t, `truncate a; analyze a`)
	p.check(t).mustPass(t, "CONFLICTING_TABLES")
	p.target.Exec(t, `create view v as select 1 as one`)
	p.check(t).mustBe(t, "TARGET_SAME_OBJECTS", migration.ItemNotice, "view public.v", "stay as they are")
	p.target.Exec(t, `create table other (id int constraint b_pkey primary key)`)
	p.check(t).mustBe(t, "TARGET_SAME_OBJECTS", migration.ItemFailed, "index public.b_pkey")
	p.target.Exec(t, `create view b as select 1 as one`)
	item := p.check(t).mustBe(t, "CONFLICTING_TABLES", migration.ItemFailed, "view public.b")
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "CONFLICTING_TABLES")
}

// A migration that goes on finds the rows that it has copied itself.
func TestOwnRowsDoNotCount(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table a (id int primary key)`)
	p.target.Exec(t, `create table a (id int primary key); insert into a values (1)`)
	p.of(types(migration.TypeFull))
	makeLedger(t, p.target)
	p.check(t).mustBe(t, "CONFLICTING_TABLES", migration.ItemFailed, "public.a")
	record(t, p.target, p.spec.ID)
	p.target.Exec(t, `update dts_sync.tbl set def = '{"existing": true}'`)
	p.check(t).mustPass(t, "CONFLICTING_TABLES")
}

// What is written would fire triggers a second time, and meet foreign keys before their parents.
func TestTriggersAndForeignKeysOfTheTarget(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.source.Exec(t, `create table a (id int primary key); create table b (id int primary key, a int)`)
	p.target.Exec(t, fmt.Sprintf(`
		create table a (id int primary key); create table b (id int primary key, a int references a);
		create function f() returns trigger language plpgsql as 'begin return new; end';
		create trigger stamp before insert on b for each row execute function f();
		create trigger quiet before insert on b for each row execute function f(); alter table b disable trigger quiet;
		create rule nothing as on insert to a where new.id < 0 do instead nothing;
		alter table a owner to %[1]s; alter table b enable row level security`, role))
	apply(t, p.target, fmt.Sprintf(`grant create on database "%s" to %s;`, p.target.Name, role))
	p.of(types(migration.TypeFull, migration.TypeIncremental))
	rules := p.check(t).mustBe(t, "CONFLICTING_TABLES", migration.ItemFailed, "nothing on public.a", "drop rule")
	if strings.Contains(rules.Found, "stamp") {
		t.Errorf("a superuser's sessions do not fire it: %s", rules.Found)
	}
	apply(t, p.target, rules.Fix)
	p.check(t).mustPass(t, "CONFLICTING_TABLES")

	p.targetRole = role
	rights := p.check(t).mustBe(t, "CONFLICTING_TABLES", migration.ItemFailed, "may not write public.b", "row-level security",
		"trigger stamp on public.b", "foreign keys of", "FOREIGN KEY (a) REFERENCES", "session_replication_role")
	if strings.Contains(rights.Found, "quiet") {
		t.Errorf("a disabled trigger: %s", rights.Found)
	}
	fix := strings.Split(rights.Fix, "grant set on parameter")
	apply(t, p.target, fix[0]) // the grants, and bypassrls
	item := p.check(t).mustBe(t, "CONFLICTING_TABLES", migration.ItemFailed, "trigger stamp on public.b")
	// Without the right, which others would have too: by the statements that stand behind a remark.
	_, remarked, _ := strings.Cut(item.Fix, "over:\n")
	apply(t, p.target, strings.ReplaceAll(remarked, "-- alter", "alter"))
	p.check(t).mustPass(t, "CONFLICTING_TABLES")

	p.targetRole = ""
	p.target.Exec(t, `alter table b enable always trigger stamp`)
	if item := p.check(t).mustBe(t, "CONFLICTING_TABLES", migration.ItemAlert, "stamp", "disable trigger"); !item.Ignorable {
		t.Error("it may be meant")
	}
}

// Rows are found by a key that the target must have an index for; other unique indexes cost parallelism.
func TestIndexesOfTheTarget(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table a (x int, y int, primary key (x, y))`)
	p.target.Exec(t, `create table a (x int, y int, code text unique); create index on a (x, y)`)
	p.of(types(migration.TypeFull, migration.TypeIncremental))
	item := p.check(t).mustBe(t, "CONFLICTING_TABLES", migration.ItemFailed, "no unique index", "public.a", "(x, y)",
		`create unique index on "public"."a" ("x", "y");`)
	apply(t, p.target, item.Fix)
	p.check(t).mustBe(t, "CONFLICTING_TABLES", migration.ItemNotice, "one snapshot", "public.a")
	p.of(types(migration.TypeFull)).check(t).mustPass(t, "CONFLICTING_TABLES")
	p.of(types(migration.TypeFull, migration.TypeIncremental))
	p.target.Exec(t, `alter table a drop column code`)
	p.check(t).mustPass(t, "CONFLICTING_TABLES")
}

// Without the schema nobody makes a sequence, and the target would count from the beginning.
func TestSequencesThatTheTargetLacks(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create sequence loose; create table a (id serial primary key)`)
	p.target.Exec(t, `create table a (id int primary key); create sequence a_id_seq`)
	p.of(types(migration.TypeFull))
	item := p.check(t).mustBe(t, "SEQUENCES", migration.ItemAlert, "public.loose", "create sequence")
	if strings.Contains(item.Found, "a_id_seq") || !item.Ignorable {
		t.Errorf("%+v", item)
	}
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "SEQUENCES")
	p.target.Exec(t, `drop sequence loose`)
	p.of(func(s *migration.Spec) {
		s.Types, s.Objects = []migration.Type{migration.TypeFull}, []migration.Object{{Table: "public.a"}}
	})
	p.check(t).mustPass(t, "SEQUENCES")
}

// Two tables that become one must be told apart there.
func TestMerges(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table north (id int primary key, v text); create table south (id int primary key, v text)`)
	p.target.Exec(t, `create table sales (region text not null, id int not null, v text)`)
	merge := func(change func(*migration.Spec)) report {
		return p.of(func(s *migration.Spec) {
			s.Types = []migration.Type{migration.TypeFull, migration.TypeIncremental}
			s.Objects = []migration.Object{{Table: "public.north", Rename: "sales"}, {Table: "public.south", Rename: "sales"}}
			change(s)
		}).check(t)
	}
	if item := merge(func(*migration.Spec) {}).item(t, "MERGE"); item.State != migration.ItemFailed || item.Fix == "" {
		t.Errorf("nothing tells them apart: %+v", item)
	}
	told := func(s *migration.Spec) {
		s.Transform = []migration.Transform{
			{Tables: []string{"public.north"}, Set: map[string]string{"region": "'n'"}},
			{Tables: []string{"public.south"}, Set: map[string]string{"region": "'s'"}},
		}
	}
	item := merge(told).mustBe(t, "MERGE", migration.ItemFailed, "unique index", "public.sales", `create unique index on "public"."sales"`)
	apply(t, p.target, item.Fix)
	items := merge(told)
	items.mustBe(t, "MERGE", migration.ItemPassed, "2 tables become 1")
	items.mustPass(t, "CONFLICTING_TABLES", "TRANSFORM")
	p.of(func(*migration.Spec) {}).check(t).mustPass(t, "MERGE")
}

// The oldest and the newest server answer every question about a selection and about tables that are there.
func TestOldestAndNewestServersWithSelections(t *testing.T) {
	for _, major := range []int{10, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			both := pgtest.Server(t, pgtest.Major(major))
			p := between(t, both, both)
			p.source.Exec(t, `
				create schema s; create type s.mood as enum ('a');
				create table s.a (id bigint generated always as identity primary key, v text collate "C", m s.mood, n int);
				create table s.p (id int, at date) partition by range (at);
				create table s.p1 partition of s.p for values from ('2026-01-01') to ('2027-01-01');
				create function s.f() returns int language sql as 'select 1'; create view s.v as select * from s.a`)
			p.target.Exec(t, `
				create schema s; create type s.mood as enum ('a');
				create table s.parent (id bigint primary key);
				create table s.a (id bigint primary key references s.parent, v text, m s.mood, n int, more int unique);
				create table s.p (id int, at date) partition by range (at);
				create table s.p1 partition of s.p for values from ('2026-01-01') to ('2027-01-01')`)
			for name, change := range map[string]func(*migration.Spec){
				"without schema": func(s *migration.Spec) { s.Types = []migration.Type{migration.TypeFull, migration.TypeIncremental} },
				"ignore":         func(s *migration.Spec) { s.Conflict = migration.ConflictIgnore },
				"report":         func(*migration.Spec) {},
			} {
				p.of(func(s *migration.Spec) {
					change(s)
					s.Objects = []migration.Object{{Table: "s.a", Where: "n > 0 and m = 'a'"}, {Table: "s.p"}}
					s.Transform = []migration.Transform{{Tables: []string{"s.a"}, Set: map[string]string{"v": "upper(v)"}}}
					s.Identity = migration.IdentitySetFull
				})
				items := p.check(t)
				for _, item := range items {
					if strings.Contains(item.Found, "could not be looked at") {
						t.Errorf("%s: %s: %s", name, item.Code, item.Found)
					}
				}
				items.mustPass(t, "SELECTION", "FILTERS", "TRANSFORM", "MERGE")
				items.mustBe(t, "REPLICA_IDENTITY", migration.ItemNotice, "s.a")
				if name == "without schema" {
					items.mustPass(t, "SEQUENCES_BEHIND")
					items.mustBe(t, "CONFLICTING_TABLES", migration.ItemNotice, "s.a")
					items.mustBe(t, "SEQUENCES", migration.ItemAlert, "s.a_id_seq")
				} else {
					items.mustBe(t, "OBJECTS_LEFT_OUT", migration.ItemNotice, "view s.v", "function s.f")
				}
			}
		})
	}
}
