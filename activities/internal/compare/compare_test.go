package compare_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/compare"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bench is two databases and how they are compared.
type bench struct {
	from, to       *pgtest.DB
	source, target *pg.Server
}

func newBench(t *testing.T, source, target *pgserver.Server) bench {
	t.Helper()
	b := bench{from: pgtest.Database(t, source), to: pgtest.Database(t, target)}
	var err error
	b.source, err = pg.NewServer(migration.Source, migration.Endpoint{URI: b.from.URI}, nil)
	require.NoError(t, err)
	b.target, err = pg.NewServer(migration.Target, migration.Endpoint{URI: b.to.URI}, nil)
	require.NoError(t, err)
	return b
}

func (b bench) both(t *testing.T, sql string) {
	t.Helper()
	b.from.Exec(t, sql)
	b.to.Exec(t, sql)
}

func connect(t *testing.T, server *pg.Server) *pgx.Conn {
	t.Helper()
	conn, err := server.Connect(t.Context(), "test")
	require.NoError(t, err)
	t.Cleanup(func() { pg.Close(conn) })
	return conn
}

func (b bench) tables(t *testing.T) []mapping.Table {
	t.Helper()
	found, err := catalog.Tables(t.Context(), connect(t, b.source))
	require.NoError(t, err)
	tables := make([]mapping.Table, len(found))
	for i, table := range found {
		tables[i] = mapping.Whole(table)
	}
	return tables
}

func (b bench) verify(t *testing.T, method compare.Method) map[string]migration.Verdict {
	t.Helper()
	verdicts, err := compare.Verify(t.Context(), compare.Config{
		Source: b.source, Target: b.target, Session: "test", Tables: b.tables(t), Method: method,
	})
	require.NoError(t, err)
	byName := map[string]migration.Verdict{}
	for _, verdict := range verdicts {
		byName[verdict.Table] = verdict
	}
	return byName
}

// Every pair of contents that differ, however little, must have different hashes; both hash functions are asked.
func TestDifferentRowsHaveDifferentHashes(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.from.Exec(t, "create table x (a text, b text, f float8, n numeric, j json, y bytea, s text[])")
	table := b.tables(t)[0]
	conn := connect(t, b.source)
	contents := []string{
		"", "(null)", "('')", "('null')", "('NULL')", "(' ')", "('a', null)", "(null, 'a')", "('a', '')", "('', 'a')",
		"('a,b', null)", "('a', 'b')", "('\"a\"', null)", `('(a,b)', null)`, `('a\', null)`, `('a\\', null)`, "('a'), ('a')", "('a'), ('a'), ('a')",
		"('a'), ('b'), ('b')", "('a'), ('a'), ('b')", "(null, null, 0)", "(null, null, '-0')", "(null, null, 'nan')", "(null, null, 0.1)",
		"(null, null, 0.1 + 2e-17)", "(null, null, null, 1.0)", "(null, null, null, 1.00)",
		`(null, null, null, null, '{"a": 1}')`, `(null, null, null, null, '{"a":1}')`, `(null, null, null, null, null, '\x00')`,
		`(null, null, null, null, null, '\x')`, "(null, null, null, null, null, null, '{}')", "(null, null, null, null, null, null, '{null}')",
		`(null, null, null, null, null, null, '{"null"}')`, "(null, null, null, null, null, null, '[0:0]={1}')", "(null, null, null, null, null, null, '{1}')",
	}
	for _, dialect := range []compare.Dialect{{Fast: true}, {}, {Bits: true}} {
		seen := map[string]string{}
		for _, content := range contents {
			b.from.Exec(t, "truncate x")
			if content != "" {
				b.from.Exec(t, "insert into x values "+content)
			}
			rows, sum, err := dialect.Hash(t.Context(), conn, table)
			require.NoError(t, err)
			key := fmt.Sprint(rows, " ", sum)
			require.Empty(t, seen[key], "%+v: %s", dialect, content)
			seen[key] = "as " + content
		}
	}
}

func TestEqualRowsHaveEqualHashesInAnyOrderAndSetting(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.both(t, `create type mood as enum ('sad', 'fine'); create domain price as numeric check (value > 0);
		create type pair as (a int, b text);
		create table "T ""x" (id int primary key, "a b" timestamptz, i interval, f float8, y bytea, m mood, p price, c pair, d date[], money money)`)
	const rows = `insert into "T ""x" select n, '2020-01-01 12:00+02'::timestamptz + n * interval '1 hour', n * interval '1 day 2 hours',
		n / 7.0::float8, decode(md5(n::text), 'hex'), 'sad', n, row(n::int, 'x'::text)::pair, array['2020-01-01'::date + n], n::numeric::money from (select generate_series(1, 1000)::int as n) s order by `
	b.from.Exec(t, rows+"1")
	b.to.Exec(t, rows+"1 desc")
	b.to.Exec(t, fmt.Sprintf(`alter database %[1]s set timezone = 'Asia/Tokyo'; alter database %[1]s set datestyle = 'German';
		alter database %[1]s set intervalstyle = 'iso_8601'; alter database %[1]s set extra_float_digits = 0; alter database %[1]s set bytea_output = 'escape'`, b.to.Name))
	verdict := b.verify(t, compare.MethodHash)[`public.T "x`]
	require.True(t, verdict.Equal, "%+v", verdict)
	require.EqualValues(t, 1000, verdict.SourceRows)
	b.to.Exec(t, `update "T ""x" set p = p + 0.01 where id = 500`)
	verdict = b.verify(t, compare.MethodHash)[`public.T "x`]
	require.False(t, verdict.Equal)
	require.True(t, b.verify(t, compare.MethodCounts)[`public.T "x`].Equal, "a count cannot see it")
}

func TestColumnsAreMatchedByNameNotPlace(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.from.Exec(t, "create table x (gone int, a int, b int, g int generated always as (a + 1) stored, f float8 generated always as (exp(a)) stored)")
	b.from.Exec(t, "alter table x drop column gone; insert into x (a, b) values (1, 2), (1, 2)")
	b.to.Exec(t, "create table x (b int, g int generated always as (a + 1) stored, f float8, a int); insert into x (a, b) values (1, 2), (1, 2)")
	require.True(t, b.verify(t, compare.MethodHash)["public.x"].Equal)
	b.to.Exec(t, "truncate x; insert into x (a, b) values (2, 1), (2, 1)")
	require.False(t, b.verify(t, compare.MethodHash)["public.x"].Equal)
}

func TestOnlyTheTableItselfIsCompared(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.both(t, `create table parent (a int); create table child () inherits (parent);
		create table tree (a int) partition by list (a); create table leaf partition of tree for values in (1); create table none ()`)
	b.from.Exec(t, "insert into child values (1); insert into tree values (1); insert into none default values")
	verdicts := b.verify(t, compare.MethodHash)
	require.True(t, verdicts["public.parent"].Equal)
	require.False(t, verdicts["public.child"].Equal)
	require.False(t, verdicts["public.leaf"].Equal)
	require.False(t, verdicts["public.none"].Equal)
	b.to.Exec(t, "insert into child values (1); insert into tree values (1); insert into none default values")
	for name, verdict := range b.verify(t, compare.MethodHash) {
		require.True(t, verdict.Equal, name)
	}
}

func TestHashingThatDoesNotFitItsTimeBecomesCounting(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.both(t, "create table small (a int); create table large (a text); insert into large select repeat('x', 1000) from generate_series(1, 20000)")
	verdicts, err := compare.Verify(t.Context(), compare.Config{
		Source: b.source, Target: b.target, Session: "test", Tables: b.tables(t), Method: compare.MethodAuto, Budget: time.Millisecond,
	})
	require.NoError(t, err)
	require.Len(t, verdicts, 2)
	require.Equal(t, compare.MethodCounts, compare.MethodOf(verdicts))
	for _, verdict := range verdicts {
		require.True(t, verdict.Equal)
	}
	verdicts, err = compare.Verify(t.Context(), compare.Config{
		Source: b.source, Target: b.target, Session: "test", Tables: b.tables(t), Method: compare.MethodAuto, Budget: time.Minute,
	})
	require.NoError(t, err)
	require.Equal(t, compare.MethodHash, compare.MethodOf(verdicts))
}

func TestMissingTableIsAnErrorOfTheSideThatLacksIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), pgtest.Shared(t))
	b.from.Exec(t, "create table x (a int)")
	_, err := compare.Verify(t.Context(), compare.Config{
		Source: b.source, Target: b.target, Session: "test", Tables: b.tables(t), Method: compare.MethodHash,
	})
	fault, ok := migration.AsFault(err)
	require.True(t, ok)
	require.Equal(t, migration.Target, fault.Side)
	require.Equal(t, "42P01", fault.SQLState)
}

// What a migration may meet: the oldest source, the newest target, and what lies around the changes of the text form (12)
// and of the hash function (11).
func TestVersionsAgreeOnTheSameRows(t *testing.T) {
	t.Parallel()
	const rows = `create table x (id int, f float8, g float4, fs float8[], p point, n numeric, b bytea, i interval, ts timestamptz, j jsonb, t text);
		insert into x select i, i / 7.0, i / 3.0, array[i / 3.0, null], point(i / 3.0, 1), i / 7.0, decode(md5(i::text), 'hex'), i * interval '1 hour',
		'2020-01-01'::timestamptz + i * interval '1 minute', jsonb_build_object('a', i), case when i % 3 = 0 then null when i % 3 = 1 then '' else 'é' || i end
		from generate_series(1, 200) i; insert into x (f, g) values ('nan', '-infinity'), ('-0', 1e-40)`
	for _, major := range []int{10, 11, 13, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, pgtest.Server(t, pgtest.Major(major)), pgtest.Shared(t))
			b.both(t, rows)
			dialect, err := compare.Agree(t.Context(), connect(t, b.source), connect(t, b.target))
			require.NoError(t, err)
			require.Equal(t, compare.Dialect{Fast: major >= 11, Bits: major < 12}, dialect)
			require.True(t, b.verify(t, compare.MethodHash)["public.x"].Equal)
			b.to.Exec(t, "update x set f = f + 1e-15 where id = 1")
			require.False(t, b.verify(t, compare.MethodHash)["public.x"].Equal)
		})
	}
}
