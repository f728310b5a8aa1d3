package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// modules and their tables make an application of hundreds of tables. One name needs quotes everywhere.
var modules = []string{"crm", "Billing", "stock", "hr", "audit", "web_shop", "reports", "import"}

const tablesPerModule = 40

// applicationSQL is an application's schema with a few rows: enums, domains, serial and identity columns, checks, foreign
// keys inside and across modules, partitions, views over views, a materialized view, functions, triggers, comments.
func applicationSQL() string {
	var sql strings.Builder
	for m, module := range modules {
		schema := migration.Quote(module)
		fmt.Fprintf(&sql, moduleHead, schema)
		for n := range tablesPerModule {
			refers := fmt.Sprintf(`%s."Entity_%02d"`, schema, max(n-1, 0))
			if n%10 == 9 && m > 0 {
				refers = fmt.Sprintf(`%s."Entity_%02d"`, migration.Quote(modules[m-1]), n)
			}
			fmt.Fprintf(&sql, moduleTable, schema, n, refers)
		}
		fmt.Fprintf(&sql, moduleTail, schema)
	}
	return sql.String()
}

const moduleHead = `
create schema %[1]s;
comment on schema %[1]s is 'a module';
create type %[1]s.state as enum ('new', 'open', 'Closed');
create domain %[1]s.amount as numeric(12,2) check (value >= 0);
create sequence %[1]s.ticket start 1000 increment 10;
create function %[1]s.touch() returns trigger language plpgsql as $$begin new."changedAt" := now(); return new; end$$;
create function %[1]s.label(%[1]s.state) returns text language sql immutable as $$select 'state ' || $1::text$$;
create table %[1]s.event (id bigint generated always as identity, at date not null, body text, primary key (id, at)) partition by range (at);
create table %[1]s.event_2023 partition of %[1]s.event for values from ('2023-01-01') to ('2024-01-01');
create table %[1]s.event_2024 partition of %[1]s.event for values from ('2024-01-01') to ('2025-01-01');
create table %[1]s.event_rest partition of %[1]s.event default;
create index on %[1]s.event (body);
insert into %[1]s.event (at, body) select date '2023-06-01' + 40 * i, 'event ' || i from generate_series(1, 30) i;`

const moduleTable = `
create table %[1]s."Entity_%02[2]d" (
    id serial primary key,
    "parentId" int references %[3]s (id) on delete set null,
    code text not null default 'c' || nextval('%[1]s.ticket'),
    state %[1]s.state not null default 'new',
    price %[1]s.amount,
    total numeric generated always as (coalesce(price, 0) * 2) stored,
    tags text[] default '{}',
    "changedAt" timestamptz not null default now(),
    constraint "Entity_%02[2]d_code_key" unique (code),
    check (code <> '' and state in ('new', 'open', 'Closed'))
);
create index on %[1]s."Entity_%02[2]d" (lower(code)) where state = 'open';
create index on %[1]s."Entity_%02[2]d" ("parentId", "changedAt" desc);
create trigger touch before update on %[1]s."Entity_%02[2]d" for each row when (old.state is distinct from new.state) execute function %[1]s.touch();
comment on table %[1]s."Entity_%02[2]d" is 'entity %[2]d';
comment on column %[1]s."Entity_%02[2]d"."changedAt" is 'when';
create view %[1]s."View_%02[2]d" as
    select e.id, e.code, %[1]s.label(e.state) as label, p.code as parent from %[1]s."Entity_%02[2]d" e left join %[3]s p on p.id = e."parentId";
insert into %[1]s."Entity_%02[2]d" (price, tags) select i, array['t' || i] from generate_series(1, 20) i;`

const moduleTail = `
create view %[1]s."Overview" as select v.id, v.label, (select count(*) from %[1]s."Entity_01") as entities from %[1]s."View_00" v;
create materialized view %[1]s."Summary" as select state, count(*) as n, sum(price) as price from %[1]s."Entity_00" group by state;
create unique index on %[1]s."Summary" (state);
create rule "noDelete" as on delete to %[1]s."Overview" do instead nothing;
create statistics %[1]s.correlated on state, price from %[1]s."Entity_00";
alter table %[1]s."Entity_02" enable row level security;
create policy own on %[1]s."Entity_02" using (exists (select from %[1]s."Entity_01" p where p.id = "Entity_02"."parentId"));`

// renameOnServer does to a copy of the source what the definition of the second test asks for, by PostgreSQL's own
// commands, which follow every reference.
func renameOnServer(t *testing.T, db *pgtest.DB) {
	t.Helper()
	db.Exec(t, `alter schema "Billing" rename to accounts`)
	db.Exec(t, `do $$
declare r record;
begin
    for r in select c.oid, c.oid::regclass as name, relname, relkind, relnamespace::regnamespace::text as schema,
                    regexp_replace(relname, '^Entity_(\d\d)$', 'Thing_\1') as renamed
             from pg_class c where relkind in ('r', 'p', 'v', 'm') and relnamespace::regnamespace::text in
                  ('crm', 'accounts', 'stock', 'hr', 'audit', 'web_shop', 'reports', '"import"', 'import') loop
        if r.relkind in ('r', 'p') and r.schema = 'crm' and r.renamed <> r.relname then
            execute format('alter table %s rename to %I', r.name, r.renamed);
        elsif lower(r.relname) <> r.relname then
            execute format('alter %s %s rename to %I',
                case r.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'table' end, r.name, lower(r.relname));
        end if;
    end loop;
    for r in select attrelid::regclass as name, attname from pg_attribute join pg_class on pg_class.oid = attrelid
             where relkind in ('r', 'p') and not relispartition and attnum > 0 and not attisdropped and lower(attname) <> attname
               and relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema') loop
        execute format('alter table %s rename column %I to %I', r.name, r.attname, lower(r.attname));
    end loop;
end$$`)
}

const renamed = `
objects:
  - {schema: "*"}
  - {schema: Billing, rename: accounts}
  - {table: "crm.Entity_*", rename: "crm.Thing_$1"}
names: {case: lower}
`

func TestApplicationOfHundredsOfTablesArrivesWithoutADifference(t *testing.T) {
	s := newScenario(t, "cutover: {mode: auto, steadyFor: 1s}\nparallel: {copy: 2, index: 2}\n")
	wanted := pgtest.Database(t, s.source)
	wanted.Exec(t, applicationSQL())
	s.migrateApplication(t, wanted, func(_ int, module string, n int) string {
		return fmt.Sprintf(`%s."Entity_%02d"`, migration.Quote(module), n)
	})
}

func TestApplicationArrivesRenamedAsTheServerItselfWouldRename(t *testing.T) {
	s := newScenario(t, "cutover: {mode: auto, steadyFor: 1s}\nparallel: {copy: 2, index: 2}\nprecheck: {ignore: [NAMES_IN_CODE]}\n"+renamed)
	wanted := pgtest.Database(t, s.source)
	wanted.Exec(t, applicationSQL())
	renameOnServer(t, wanted)
	s.migrateApplication(t, wanted, func(m int, module string, n int) string {
		switch {
		case m == 0:
			return fmt.Sprintf(`crm."Thing_%02d"`, n)
		case module == "Billing":
			return fmt.Sprintf(`accounts.entity_%02d`, n)
		}
		return fmt.Sprintf(`%s.entity_%02d`, migration.Quote(module), n)
	})
}

// migrateApplication runs a whole migration while the application is written to. It compares definitions with those of a
// database that has what the target must have, and rows by SQL over both sides.
func (s *scenario) migrateApplication(t *testing.T, wanted *pgtest.DB, nameThere func(m int, module string, n int) string) {
	t.Helper()
	s.from.Exec(t, applicationSQL())
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan int, 1)
	go func() { written <- writeApplication(ctx, s.from.URI) }() // ends with ctx
	p := s.start(nil, "run", "-f", s.file)
	s.await(p, "cutover", func(status migration.Status) bool { return status.Phase == migration.PhaseCutover })
	code := p.wait(5 * time.Minute)
	stop()
	require.Positive(t, <-written, "changes during the migration")
	require.Equal(t, 0, code)
	want, got := strings.Split(dumpOf(t, wanted), "\n"), strings.Split(dumpOf(t, s.to), "\n")
	for i := range min(len(want), len(got)) {
		require.Equal(t, want[i], got[i], "line %d of pg_dump, after %s", i+1, strings.Join(want[max(0, i-5):i], "\n"))
	}
	require.Len(t, got, len(want))
	for m, module := range modules {
		for n := range tablesPerModule {
			from := fmt.Sprintf(`%s."Entity_%02d"`, migration.Quote(module), n)
			to := nameThere(m, module, n)
			require.Equal(t, s.from.Query(t, rowsOfEntity+from+" r"), s.to.Query(t, rowsOfEntity+to+" r"), "%s and %s", from, to)
		}
	}
}

const rowsOfEntity = `select count(*), coalesce(sum(('x' || left(md5((r.*)::text), 8))::bit(32)::bigint), 0) from `

// writeApplication changes random rows until ctx ends, or the source refuses writes. It returns the number of changes.
func writeApplication(ctx context.Context, uri string) (changes int) {
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		return 0
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	random := rand.New(rand.NewPCG(1, 2))
	for {
		table := fmt.Sprintf(`%s."Entity_%02d"`, migration.Quote(modules[random.IntN(len(modules))]), random.IntN(tablesPerModule))
		statement := fmt.Sprintf("update %s set state = 'open', price = price + 1 where id = %d", table, random.IntN(20))
		switch random.IntN(4) {
		case 0:
			statement = fmt.Sprintf("insert into %s (price) values (%d)", table, random.IntN(1000))
		case 1:
			statement = fmt.Sprintf("delete from %s where id = %d", table, 20+random.IntN(20))
		}
		if _, err := conn.Exec(ctx, statement); err != nil {
			return changes
		}
		changes++
		time.Sleep(2 * time.Millisecond)
	}
}

var dumpNoise = regexp.MustCompile(`(?m)^\\(un)?restrict .*$`)

func dumpOf(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), db.Server.Binaries.Path("pg_dump"), "--schema-only", "--no-publications",
		"--exclude-schema=dts_sync", "--exclude-schema=pgdts_fence", "--dbname="+db.URI).Output()
	require.NoError(t, err)
	return dumpNoise.ReplaceAllString(string(out), "")
}
