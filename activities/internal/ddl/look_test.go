package ddl

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// Types are written in the plan as the server writes them, or every table would be read again at every look.
func TestNothingIsFoundWhereNothingHasChangedAndALookIsCheap(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	db.Exec(t, `create schema "App"; create type "App".mood as enum ('a'); create domain "App".amount as numeric(12,2);
		create table "App"."T y" (id int primary key, "m M" "App".mood, a "App".amount[], n numeric(5,1) default 1, t timestamptz(3), g int generated always as (id) stored, c varchar(7) check (c <> ''));
		create unlogged table u (id int primary key);
		create table p (k int primary key) partition by range (k); create table p1 partition of p for values from (0) to (9)`)
	db.Exec(t, `do $$ begin for i in 1..1000 loop execute format('create table t%s (id int primary key, v text default %L, n numeric(8,2), at timestamptz)', i, 'x'); end loop; end $$`)
	db.Exec(t, `create publication look for table "App"."T y", p1`)
	db.Exec(t, `do $$ begin for i in 1..1000 loop execute format('alter publication look add table t%s', i); end loop; end $$`)
	conn, planned := asPlanned(t, db)
	watch := Watch{Publications: []string{"look"}, Everything: true}
	began := time.Now()
	found, err := watch.Look(t.Context(), conn, planned)
	require.NoError(t, err)
	require.Empty(t, found)
	t.Logf("a look at %d tables took %s", len(planned), time.Since(began))
}

// What a role may not read could have rows, and a look that ends in a refusal would see nothing of the other tables either.
func TestAttachedPartitionThatHidesItsRowsCountsAsOneThatHasSome(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	db.Exec(t, "create table p (k int primary key) partition by range (k); create table p1 partition of p for values from (0) to (10); create publication look for table p1")
	conn, planned := asPlanned(t, db)
	watch := Watch{Publications: []string{"look"}}
	_, err := watch.Look(t.Context(), conn, planned)
	require.NoError(t, err)
	for _, each := range []string{"p2", "p3", "p4"} {
		db.Exec(t, "create table "+each+" (k int primary key)")
	}
	const role = "look_reader"
	db.Exec(t, "create role "+role+"; grant select on p3, p4 to "+role+"; alter table p3 enable row level security")
	defer db.Exec(t, "drop owned by "+role+"; drop role "+role)
	for _, each := range []string{"p2 for values from (20) to (30)", "p3 for values from (30) to (40)", "p4 for values from (40) to (50)"} {
		db.Exec(t, "alter table p attach partition "+each)
	}
	_, err = conn.Exec(t.Context(), "set role "+role)
	require.NoError(t, err)
	found, err := watch.Look(t.Context(), conn, planned)
	require.NoError(t, err)
	require.Equal(t, []string{"p2", "p3"}, grave(found))
}

// Rows that a table had before it came below a planned one were not published, and rows that came after were.
func TestPartitionsThatCameWithRowsAreToldFromThoseThatWereFilledLater(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]*pgserver.Server{"newest": pgtest.Shared(t), "oldest": pgtest.Server(t, pgtest.Major(10))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Database(t, server)
			db.Exec(t, "create table p (k int) partition by range (k); create table p0 partition of p for values from (0) to (10); create publication look for table p0")
			conn, planned := asPlanned(t, db)
			watch := Watch{Publications: []string{"look"}}
			_, err := watch.Look(t.Context(), conn, planned)
			require.NoError(t, err)
			for _, transactions := range [][]string{
				{"create table p1 partition of p for values from (10) to (20); insert into p1 values (11)"},
				{"create table p2 partition of p for values from (20) to (30)", "alter table p2 owner to pg_monitor", "insert into p2 values (21)"},
				{"create table p3 (k int); insert into p3 select 31 from generate_series(1, 2000); alter table p attach partition p3 for values from (30) to (40)"},
				{"create table p4 (k int)", "insert into p4 values (41)", "alter table p attach partition p4 for values from (40) to (50)"},
				{"create table p5 (k int); alter table p attach partition p5 for values from (50) to (60); insert into p5 values (51)", "insert into p5 values (52)"},
				{
					"create table p6 (k int) partition by range (k); create table p60 partition of p6 for values from (60) to (70)",
					"create table p61 partition of p6 for values from (70) to (80); insert into p61 values (71)", "alter table p attach partition p6 for values from (60) to (80)",
				},
				{"create table p7 (k int) partition by range (k); create table p70 partition of p7 for values from (80) to (90); insert into p70 values (81);" +
					"alter table p attach partition p7 for values from (80) to (90)"},
			} {
				for _, transaction := range transactions {
					db.Exec(t, transaction)
				}
			}
			found, err := watch.Look(t.Context(), conn, planned)
			require.NoError(t, err)
			require.Equal(t, []string{"p3", "p4", "p61", "p70"}, grave(found))
		})
	}
}

func grave(found []Finding) []string {
	var names []string
	for _, each := range found {
		if each.Grave {
			names = append(names, each.Table.Name)
		}
	}
	return names
}

// asPlanned is a session as a migration has it, and the tables as they are now.
func asPlanned(t *testing.T, db *pgtest.DB) (*pgx.Conn, []ledger.Table) {
	t.Helper()
	conn := db.Conn(t)
	_, err := conn.Exec(t.Context(), "set search_path = pg_catalog")
	require.NoError(t, err)
	read, err := catalog.Tables(t.Context(), conn)
	require.NoError(t, err)
	var planned []ledger.Table
	for _, table := range read {
		planned = append(planned, ledger.Table{Table: mapping.Whole(table), Mode: table.Mode(migration.InsertOnly)})
	}
	return conn, planned
}
