package precheck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// What the source's version had and the target's has not must be said before the schema fails on it.
func TestWhatNewerServersDoNotHave(t *testing.T) {
	t.Parallel()
	p := between(t, pgtest.Server(t, pgtest.Major(10)), pgtest.Shared(t))
	p.source.Exec(t, `
		create table fine (id int primary key, p point, tags text[], at timestamptz default now(), check (length(tags::text) between 0 and 99));
		create index on fine (lower(id::text)) where id > 0 and p is not null;
		create view fine_view as select relname, count(*) over (), extract(year from now()), 'a' || 1 from pg_class c join pg_stat_activity a on true`)
	p.check(t).mustPass(t, "COLUMN_TYPES", "SERVER_OBJECTS", "HIDDEN_OIDS", "LANGUAGES")

	p.source.Exec(t, `
		create table times (id int primary key, at abstime, gaps reltime[], span tinterval);
		insert into times values (1, '2026-01-02 03:04:05+00', '{1 day}', null);
		create type pair as (at abstime, n int);
		create function past(abstime) returns int language sql as 'select 1'`)
	types := p.check(t).mustBe(t, "COLUMN_TYPES", migration.ItemFailed, "public.times.at (abstime)", "public.times.gaps (reltime)",
		"public.times.span (tinterval)", "public.pair", "public.past")
	apply(t, p.source, types.Fix)
	others := p.check(t).mustBe(t, "COLUMN_TYPES", migration.ItemAlert, "public.pair", "public.past")
	if strings.Contains(others.Found, "times") {
		t.Errorf("the fix has mended it: %s", others.Found)
	}
	if at := pgtest.Value[string](t, p.source, `select at::text from times`); !strings.HasPrefix(at, "2026-01-02") {
		t.Errorf("the fix has made %s of it", at)
	}
	p.source.Exec(t, `drop type pair; drop function past(abstime)`)
	p.check(t).mustPass(t, "COLUMN_TYPES")

	p.source.Exec(t, `
		create view factorial as select 5 ! as f;
		create view kinds as select p.proname, p.proisagg from pg_proc p where p.pronargs = 0;
		create view joined as select d.adsrc from pg_class c left join pg_attrdef d on d.adrelid = c.oid;
		create view backup as select pg_is_in_backup();
		create table checked (id int primary key, check (id ! > 0));
		create aggregate gathered(anyelement) (sfunc = array_append, stype = anyarray, initcond = '{}');
		create operator !!! (leftarg = int, procedure = int4abs)`)
	item := p.check(t).mustBe(t, "SERVER_OBJECTS", migration.ItemAlert, "view public.factorial (operator int8 !)",
		"view public.kinds (column proisagg of pg_catalog.pg_proc)", "view public.joined (column adsrc of pg_catalog.pg_attrdef)",
		"view public.backup (function pg_is_in_backup)", "table public.checked (operator int8 !)",
		"public.gathered", "array_append(anyarray,anyelement)", "operator public.!!!(integer,NONE) (it stands behind its operand)")
	if strings.Contains(item.Found, "fine") || !item.Ignorable {
		t.Errorf("%+v", item)
	}
	p.spec.Schema.OnObjectFailure = "fail"
	if item := p.check(t).mustBe(t, "SERVER_OBJECTS", migration.ItemFailed); item.Ignorable {
		t.Error("nobody would be asked, and the migration would fail")
	}
	p.spec.Schema.OnObjectFailure = "wait"
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.fine"}} })
	p.check(t).mustPass(t, "SERVER_OBJECTS", "COLUMN_TYPES") // the rest is not meant
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.checked"}} })
	p.check(t).mustBe(t, "SERVER_OBJECTS", migration.ItemAlert, "public.checked")
}

// pg_dump since 12 says nothing of oids, so that nobody would miss them before they are asked for.
func TestHiddenOIDs(t *testing.T) {
	t.Parallel()
	p := between(t, pgtest.Server(t, pgtest.Major(11)), pgtest.Shared(t))
	p.source.Exec(t, `create table a (id int primary key) with oids; create table b (id int primary key);
		create view reads as select oid from a; create index by_oid on a (oid)`)
	item := p.check(t).mustBe(t, "HIDDEN_OIDS", migration.ItemAlert, "public.a", "view public.reads", "index public.by_oid", "set without oids;")
	p.source.Exec(t, `drop view reads; drop index by_oid`)
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "HIDDEN_OIDS")
}

// Each server knows all that it has itself, and all that older ones had and it has kept: else every view would be named.
func TestNothingIsLackingWithoutReason(t *testing.T) {
	for _, major := range []int{10, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			both := pgtest.Server(t, pgtest.Major(major))
			p := between(t, both, both)
			p.source.Exec(t, `
				do $$ declare v record; begin
					for v in select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
					         where c.relkind = 'v' and n.nspname in ('pg_catalog', 'information_schema') loop
						begin
							execute format('create view %I as %s', 'v_' || v.relname, pg_get_viewdef(format('%I.%I', v.nspname, v.relname)::regclass));
						exception when invalid_table_definition then null; -- a column of type anyarray
						end;
					end loop;
				end $$;
				create table every_operator (id int primary key);
				create aggregate total(int) (sfunc = int4pl, stype = int)`)
			items := p.check(t)
			items.mustPass(t, "SERVER_OBJECTS", "COLUMN_TYPES")
			for _, item := range items {
				if strings.Contains(item.Found, "could not be looked at") {
					t.Errorf("%s: %s", item.Code, item.Found)
				}
			}
		})
	}
}

// A language that no extension brings needs its handler on the target.
func TestLanguages(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.check(t).mustPass(t, "LANGUAGES")
	p.source.Exec(t, `create language home_grown handler plpgsql_call_handler`)
	p.check(t).mustBe(t, "LANGUAGES", migration.ItemAlert, "home_grown")
	p.target.Exec(t, `create language home_grown handler plpgsql_call_handler`)
	p.check(t).mustPass(t, "LANGUAGES")
}
