package compare_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/compare"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const id = migration.ID("pgdts/test/abc")

// mapped finds a table of the source and changes it as a definition would.
func (b bench) mapped(t *testing.T, name string, change func(*mapping.Table)) mapping.Table {
	t.Helper()
	for _, table := range b.tables(t) {
		if table.Name.Name == name {
			change(&table)
			return table
		}
	}
	t.Fatalf("no table %s", name)
	return mapping.Table{}
}

func column(table *mapping.Table, name string) *mapping.Column {
	for i := range table.Into {
		if table.Into[i].Name == name {
			return &table.Into[i]
		}
	}
	table.Into = append(table.Into, mapping.Column{Name: name})
	return &table.Into[len(table.Into)-1]
}

func (b bench) one(t *testing.T, table mapping.Table, method compare.Method) migration.Verdict {
	t.Helper()
	verdicts, err := compare.Verify(t.Context(), compare.Config{
		Source: b.source, Target: b.target, Session: "test", ID: id, Tables: []mapping.Table{table}, Method: method,
	})
	require.NoError(t, err)
	require.Len(t, verdicts, 1)
	return verdicts[0]
}

// mustTell asks that a table is found equal, and after each of the changes on the target is not.
func (b bench) mustTell(t *testing.T, table mapping.Table, changes ...string) migration.Verdict {
	t.Helper()
	verdict := b.one(t, table, compare.MethodHash)
	require.True(t, verdict.Equal, "%+v", verdict)
	conn := b.to.Conn(t)
	for _, change := range changes {
		_, err := conn.Exec(t.Context(), "create schema if not exists saved; create table saved.rows as table "+table.Target.SQL(), pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), change)
		require.NoError(t, err)
		require.False(t, b.one(t, table, compare.MethodHash).Equal, change)
		_, err = conn.Exec(t.Context(), "truncate "+table.Target.SQL()+"; insert into "+table.Target.SQL()+" table saved.rows; drop table saved.rows", pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}
	return verdict
}

func TestRenamedTableAndColumnsAreFoundUnderTheirNames(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.from.Exec(t, `create table "Orders" (id int primary key, "Total" numeric, secret text, f float8);
		insert into "Orders" select n, n / 3.0, 's', n / 7.0 from generate_series(1, 100) n`)
	b.to.Exec(t, `create schema sales; create table sales.orders (f float8, total numeric, id int primary key);
		insert into sales.orders select n / 7.0, n / 3.0, n from generate_series(100, 1, -1) n`)
	table := b.mapped(t, "Orders", func(table *mapping.Table) {
		table.Target = migration.TableName{Schema: "sales", Name: "orders"}
		table.Into = []mapping.Column{{Name: "id", Source: "id"}, {Name: "total", Source: "Total"}, {Name: "f", Source: "f"}}
	})
	verdict := b.mustTell(t, table, "update sales.orders set total = total + 0.001 where id = 5", "delete from sales.orders where id = 5")
	require.Equal(t, "public.Orders", verdict.Table)
	require.EqualValues(t, 100, verdict.TargetRows)
	require.True(t, b.one(t, table, compare.MethodCounts).Equal)
}

// What is compared is what was promised: rows that are in, with the values that they get.
func TestFilteredAndChangedRowsAreComparedAsPromised(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.from.Exec(t, `create table x (id int primary key, v text, n int);
		insert into x select i, case when i % 5 > 0 then 'v' || i end, i from generate_series(1, 100) i`)
	b.to.Exec(t, `create table x (id int primary key, v varchar(20), n int, doubled numeric(10,2), at timestamptz default now());
		insert into x select i, upper('v' || i), i, i * 2 from generate_series(1, 90) i where i % 5 > 0`)
	table := b.mapped(t, "x", func(table *mapping.Table) {
		table.Where, table.DropIf = "v <> '' -- nothing else", "id > 90"
		set := column(table, "v")
		set.Set, set.Reads = "upper(v)", []string{"v"}
		*column(table, "doubled") = mapping.Column{Name: "doubled", Set: "n * 2", Reads: []string{"n"}}
		*column(table, "at") = mapping.Column{Name: "at", Set: "now()", Stamp: true}
	})
	verdict := b.mustTell(t, table,
		"insert into x (id) values (5)", "insert into x (id, v, n, doubled) values (95, 'V95', 95, 190)",
		"update x set v = lower(v) where id = 1", "update x set doubled = doubled + 0.01 where id = 1", "delete from x where id = 1")
	require.EqualValues(t, 72, verdict.SourceRows)
	counted := b.one(t, table, compare.MethodCounts)
	require.True(t, counted.Equal)
	require.EqualValues(t, 72, counted.SourceRows)
}

// The target's table was there before, with types of its own.
func TestOtherTypesOnTheTargetAreNoDifference(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.from.Exec(t, `create type mood as enum ('sad'); create table x (i int, n numeric, t text, b bool, j json, d date, ts timestamp, m mood, c char(3), f float8, y text);
		insert into x values (1, 1.5, 'a', true, '{"b":1, "a":2}', '2020-01-02', '2020-01-02 03:04', 'sad', 'x', 0.1, '\x00ff'), (null, null, null, null, null, null, null, null, null, null, null)`)
	b.to.Exec(t, `create schema other; create type other.feeling as enum ('sad');
		create table x (i bigint, n numeric(12,4), t char(5), b text, j jsonb, d timestamp, ts timestamptz, m other.feeling, c text, f numeric, y bytea);
		insert into x values (1, 1.5, 'a', 't', '{"b":1, "a":2}', '2020-01-02', '2020-01-02 03:04+00', 'sad', 'x  ', 0.1, '\x00ff'), (null, null, null, null, null, null, null, null, null, null, null)`)
	table := b.mapped(t, "x", func(table *mapping.Table) { table.Existing = true })
	b.mustTell(t, table, "update x set n = 1.5001 where i = 1", "update x set j = '{}' where i = 1", "update x set b = 'true' where i = 1",
		"update x set d = d + interval '1 second' where i = 1", "update x set y = 'x' where i = 1", "delete from x where i is null")
}

func TestMergedSourcesAreToldApartByTheirConstant(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.from.Exec(t, "create table eu (id int primary key, v text); insert into eu select i, 'e' from generate_series(1, 10) i")
	b.to.Exec(t, `create type region as enum ('eu', 'us'); create table x (id int, v text, region region, primary key (id, region));
		insert into x select i, 'e', 'eu' from generate_series(1, 10) i; insert into x select i, 'u', 'us' from generate_series(1, 20) i`)
	table := b.mapped(t, "eu", func(table *mapping.Table) {
		table.Target = migration.TableName{Schema: "public", Name: "x"}
		table.Merged, table.Existing = true, true
		table.TargetKey = []string{"id", "region"}
		*column(table, "region") = mapping.Column{Name: "region", Set: "'eu'"}
	})
	verdict := b.mustTell(t, table, "delete from x where id = 1 and region = 'eu'", "update x set v = 'x' where id = 1 and region = 'eu'",
		"insert into x values (99, 'e', 'eu')")
	require.Equal(t, "hash", verdict.Method)
	require.EqualValues(t, 10, verdict.TargetRows)
	b.to.Exec(t, "delete from x where region = 'us'")
	require.True(t, b.one(t, table, compare.MethodHash).Equal, "the other source's rows do not matter")
}

func TestRowsThatTheTargetHasBesideAreNoDifference(t *testing.T) {
	t.Parallel()
	for _, majors := range [][2]int{{10, 15}, {15, 10}, {12, 18}} {
		t.Run(fmt.Sprint(majors[0], " to ", majors[1]), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, pgtest.Server(t, pgtest.Major(majors[0])), pgtest.Server(t, pgtest.Major(majors[1])))
			b.from.Exec(t, `create table x (a text, b numeric, v float8, primary key (b, a)); insert into x select 'tab	' || i, i / 2.0, i / 3.0 from generate_series(1, 3000) i`)
			b.to.Exec(t, `create table x (b numeric, a varchar(30), v float8, extra int, primary key (b, a));
				insert into x select i / 2.00, 'tab	' || i, i / 3.0::float8 from generate_series(-10, 4000) i`)
			table := b.mapped(t, "x", func(table *mapping.Table) {
				table.Existing = true
				table.Operations = migration.Operations{migration.OperationInsert, migration.OperationUpdate}
			})
			b.from.Exec(t, "update x set v = b * 2 / 3")
			b.to.Exec(t, "update x set v = b * 2 / 3")
			verdict := b.mustTell(t, table, "delete from x where a = 'tab	5'", "update x set v = 0 where a = 'tab	5'")
			require.Equal(t, "subset", verdict.Method)
			require.EqualValues(t, 3000, verdict.SourceRows)
			require.EqualValues(t, 3000, verdict.TargetRows)
			b.to.Exec(t, "delete from x where b < 3; update x set v = 0 where b between 3 and 3.5")
			verdict = b.one(t, table, compare.MethodHash)
			require.EqualValues(t, 5, verdict.Missing)
			require.EqualValues(t, 2, verdict.Different)
			require.EqualValues(t, 2995, verdict.TargetRows)
			counted := b.one(t, table, compare.MethodCounts)
			require.True(t, counted.Equal, "there are more rows on the target")
			b.to.Exec(t, "delete from x where b > 1400")
			require.False(t, b.one(t, table, compare.MethodCounts).Equal)
		})
	}
}

func TestKeptRowsAreNotHeldAgainstTheTarget(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.from.Exec(t, "create table x (id numeric primary key, v text); insert into x select i, 's' from generate_series(1, 100) i")
	b.to.Exec(t, `create table x (id numeric primary key, v text); insert into x select i, 'own' from generate_series(91, 120) i;
		insert into x select i, 's' from generate_series(1, 90) i`)
	require.NoError(t, ledger.Create(t.Context(), connect(t, b.target)))
	table := b.mapped(t, "x", func(table *mapping.Table) { table.Existing, table.Keep = true, true })
	require.False(t, b.one(t, table, compare.MethodHash).Equal, "nobody said that they were kept")
	b.to.Exec(t, fmt.Sprintf(`insert into dts_sync.migration (id, run, lease_until, spec) select id, 'r', now(), '{}' from unnest('{pgdts/test/abc, pgdts/test/other}'::text[]) id;
		insert into dts_sync.kept select 'pgdts/test/abc', %[1]d, row(i)::text from generate_series(91, 99) i;
		insert into dts_sync.kept values ('pgdts/test/abc', %[1]d, '(100.0)'), ('pgdts/test/other', %[1]d, '(1)')`, table.OID))
	b.to.Exec(t, "update x set id = 100.0 where id = 100")
	verdict := b.mustTell(t, table, "delete from x where id = 1", "update x set v = 'x' where id = 90")
	require.EqualValues(t, 10, verdict.Kept)
	counted := b.one(t, table, compare.MethodCounts)
	require.True(t, counted.Equal)
	require.EqualValues(t, 10, counted.Kept)
}

func TestRowsWithoutKeyMustBeThereOftenEnough(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.from.Exec(t, "create table x (v text); insert into x values ('a'), ('a'), ('b'), (null); alter table x replica identity full")
	b.to.Exec(t, "create table x (v text); insert into x values ('a'), ('a'), ('a'), ('b'), (null), ('own')")
	table := b.mapped(t, "x", func(table *mapping.Table) {
		table.Operations = migration.Operations{migration.OperationInsert, migration.OperationUpdate}
	})
	b.mustTell(t, table, "delete from x where v = 'a'; insert into x values ('a')", "delete from x where v is null")
	table.Identity, table.Found = "d", false
	verdict := b.one(t, table, compare.MethodHash)
	require.Equal(t, "none", verdict.Method)
	require.True(t, verdict.Equal)
	require.NotEmpty(t, verdict.Reason)
}

func TestManyRowsAreLookedUpInPortions(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.both(t, "create table x (id int primary key, v text); insert into x select i, 'v' || i from generate_series(1, 450000) i")
	table := b.mapped(t, "x", func(table *mapping.Table) { table.Existing, table.Keep = true, true })
	require.NoError(t, ledger.Create(t.Context(), connect(t, b.target)))
	began := time.Now()
	verdict := b.one(t, table, compare.MethodHash)
	t.Logf("%d rows in %s", verdict.SourceRows, time.Since(began))
	require.True(t, verdict.Equal)
	require.EqualValues(t, 450000, verdict.SourceRows)
	b.to.Exec(t, "delete from x where id in (1, 200000, 200001, 400000, 450000)")
	require.EqualValues(t, 5, b.one(t, table, compare.MethodHash).Missing)
}

func TestPartsOfAPartitionedTargetAreFound(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.from.Exec(t, "create table x (id int primary key, v text); insert into x select i, 'v' from generate_series(1, 20) i")
	b.to.Exec(t, `create table x (id int primary key, v text) partition by range (id);
		create table x_1 partition of x for values from (0) to (11); create table x_2 partition of x for values from (11) to (100);
		insert into x select i, 'v' from generate_series(1, 20) i`)
	table := b.mapped(t, "x", func(table *mapping.Table) { table.Existing = true })
	b.mustTell(t, table, "update x set v = 'x' where id = 15", "delete from x where id = 5")
}

// The target's root holds the rows of the other partitions too, which are no difference of this one.
func TestPartitionsThatGoThroughTheirRootAreToldFromTheirSisters(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.from.Exec(t, `create table x (id int primary key, v text) partition by range (id);
		create table x_1 partition of x for values from (0) to (11); create table x_2 partition of x for values from (11) to (100);
		insert into x select i, 'v' from generate_series(1, 20) i`)
	b.to.Exec(t, "create table x (id int primary key, v text); insert into x select i, 'v' from generate_series(1, 20) i")
	table := b.mapped(t, "x_1", func(table *mapping.Table) {
		table.Settled, table.Existing, table.Target = true, true, migration.TableName{Schema: "public", Name: "x"}
	})
	b.mustTell(t, table, "update x set v = 'x' where id = 5", "delete from x where id = 5")
}

func TestTableWithoutInsertsIsNotCompared(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.both(t, "create table x (id int primary key); create table y (id int primary key)")
	b.from.Exec(t, "insert into x values (1)")
	x := b.mapped(t, "x", func(table *mapping.Table) {
		table.Operations = migration.Operations{migration.OperationUpdate, migration.OperationDelete, migration.OperationTruncate}
	})
	y := b.mapped(t, "y", func(*mapping.Table) {})
	verdicts, err := compare.Verify(t.Context(), compare.Config{
		Source: b.source, Target: b.target, Session: "test", Tables: []mapping.Table{x, y}, Method: compare.MethodAuto,
	})
	require.NoError(t, err)
	require.Equal(t, "none", verdicts[0].Method)
	require.True(t, verdicts[0].Equal)
	require.Equal(t, compare.MethodHash, compare.MethodOf(verdicts))
	require.Equal(t, compare.MethodNone, compare.MethodOf(verdicts[:1]))
}
