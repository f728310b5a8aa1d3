package schema_test

import (
	"fmt"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/tests/pgtest"
)

const keysAndIndexes = `
select n.nspname, i.relname, pg_get_indexdef(i.oid) from pg_index x join pg_class c on c.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
join pg_namespace n on n.oid = c.relnamespace
where nspname in ('shop', 'rich', 'select', 'Mixed Case', 's') and c.relkind in ('r', 'p') order by 1, 2`

// Tables that are finished together have what they would have had one by one, in a transaction or two.
func TestSmallTablesAreFinishedTogether(t *testing.T) {
	t.Parallel()
	sql := fixture(t, shop, "testdata/rich.sql")
	alone, together := newMove(t, sql), newMove(t, sql)
	var leaves []uint32
	for _, m := range []*move{alone, together} {
		m.load(t)
		m.create(t, schema.Before)
	}
	creator := schema.NewCreator(alone.cfg)
	defer creator.Close()
	for _, relid := range alone.tables(t) {
		if err := creator.Key(t.Context(), relid); err != nil {
			t.Fatal(err)
		}
		if err := creator.Indexes(t.Context(), relid); err != nil {
			t.Fatal(err)
		}
	}
	leaves = together.tables(t)
	creator = schema.NewCreator(together.cfg)
	defer creator.Close()
	before := pgtest.Value[int64](t, together.target, "select txid_current()")
	for range 2 {
		if built, err := creator.Together(t.Context(), leaves); err != nil || !built {
			t.Fatal(built, err)
		}
	}
	t.Logf("%d tables, transactions of the whole server: %d", len(leaves), pgtest.Value[int64](t, together.target, "select txid_current()")-before)
	if got, want := together.target.Query(t, keysAndIndexes), alone.target.Query(t, keysAndIndexes); len(want) < 10 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("keys and indexes are\n%v, want\n%v", got, want)
	}
	if n := pgtest.Value[int](t, together.target, "select count(distinct xmin::text) from dts_sync.object where section in ('key', 'index') and state = 'done'"); n > 2 {
		t.Errorf("they took %d transactions", n)
	}
}

// tables are those with rows, by oid on the source.
func (m *move) tables(t *testing.T) []uint32 {
	t.Helper()
	var relids []uint32
	for _, row := range m.source.Query(t, `select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where relkind = 'r' and nspname in ('shop', 'rich', 'select', 'Mixed Case', 's')`) {
		var relid uint32
		_, _ = fmt.Sscan(row[0], &relid)
		relids = append(relids, relid)
	}
	return relids
}

func TestOneTableThatCannotBeFinishedIsLeftToBeNamed(t *testing.T) {
	t.Parallel()
	m := newMove(t, "create schema s; create table s.a (id int primary key); create table s.b (id int primary key, n int); create index on s.b (n)")
	m.load(t)
	m.create(t, schema.Before)
	m.target.Exec(t, "insert into s.a values (1), (1)")
	creator := schema.NewCreator(m.cfg)
	defer creator.Close()
	relids := m.tables(t)
	if built, err := creator.Together(t.Context(), relids); err != nil || built {
		t.Fatal(built, err)
	}
	if got := m.target.Query(t, keysAndIndexes); len(got) != 0 {
		t.Errorf("%v was built", got)
	}
	a := pgtest.Value[uint32](t, m.source, "select 's.a'::regclass::oid")
	mustFail(t, creator.Key(t.Context(), a), "23505", "CONSTRAINT s.a a_pkey")
	m.target.Exec(t, "truncate s.a")
	if built, err := creator.Together(t.Context(), relids); err != nil || !built {
		t.Fatal(built, err)
	}
	if got := m.target.Query(t, keysAndIndexes); len(got) != 3 {
		t.Errorf("%v was built", got)
	}
}
