package bulk_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestCopyBetweenVersions(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]int{{10, 18}, {18, 10}, {13, 17}, {12, 16}, {11, 14}} {
		t.Run(fmt.Sprintf("%d to %d", pair[0], pair[1]), func(t *testing.T) {
			source, target := pgtest.Server(t, pgtest.Major(pair[0])), pgtest.Server(t, pgtest.Major(pair[1]))
			b := newBenchOn(t, source, target, `
create type mood as enum ('sad', 'ok');
create table keyed (a int, b text, n numeric, f float8, m mood, at timestamptz, d bytea, arr int[], primary key (b, a));
create table keyless (a int, r int4range, x text);
create table few (a int primary key, at timestamptz); create table none (a int primary key); create table few_keyless (m mood)`)
			b.source.Exec(t, `
insert into few select g, now() from generate_series(1, 7) g; insert into few_keyless values ('ok'), (null), ('ok');
insert into keyed select g, md5(g::text), g / 7.0, g / 7.0::float8, 'ok', now() + g * interval '1 s', decode(md5(g::text), 'hex'), array[g, null]
    from generate_series(1, 5000) g;
insert into keyless select g % 3, int4range(g, g + 5), repeat('é', g % 50) from generate_series(1, 500) g`)
			b.config.ChunkBytes = 64 << 10
			require.Greater(t, b.plan().Chunks, 8)
			b.copy(2)
			pgtest.MustEqual(t, b.source, b.target)
			require.NotEqual(t, "3", b.target.Query(t, "select count(distinct c.xmin::text) from dts_sync.chunk c join dts_sync.tbl using (migration, relid) where name in ('few', 'none', 'few_keyless')")[0][0],
				"small tables go together, in one transaction of each lane at most")
		})
	}
}

func TestMappedCopyBetweenVersions(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]int{{10, 18}, {18, 10}, {14, 12}} {
		t.Run(fmt.Sprintf("%d to %d", pair[0], pair[1]), func(t *testing.T) {
			source, target := pgtest.Server(t, pgtest.Major(pair[0])), pgtest.Server(t, pgtest.Major(pair[1]))
			b := newBenchOn(t, source, target, "")
			b.source.Exec(t, `create table t (id int primary key, v text, d float8, pad text);
				insert into t select g, 'v' || g, g / 7.0, repeat('x', 100) from generate_series(1, 3000) g`)
			b.target.Exec(t, `create table kept (k bigint generated always as identity primary key, v text, day date, d float8);
				insert into kept (k, v) overriding system value values (7, 'mine'), (2999, 'mine'), (-1, 'mine')`)
			b.config.ChunkBytes = 64 << 10
			require.Greater(t, b.plan().Chunks, 3)
			b.change("t", func(t *ledger.Table) {
				t.Target, t.TargetKey, t.Existing, t.Keep, t.Where = migration.TableName{Schema: "public", Name: "kept"}, []string{"k"}, true, true, "id % 2 = 1"
				t.Into = []mapping.Column{
					{Name: "k", Source: "id"},
					{Name: "v", Source: "v", Set: "upper(v)", Reads: []string{"v"}},
					{Name: "d", Source: "d"},
					{Name: "day", Set: "date '2020-01-01' + id", Reads: []string{"id"}},
				}
			})
			b.copy(2)
			require.Equal(t, [][]string{{"t", "(2999)"}, {"t", "(7)"}}, b.kept())
			require.Equal(t, b.source.Query(t, "select id, upper(v), date '2020-01-01' + id, d::numeric from t where id % 2 = 1 and id not in (7, 2999) order by id"),
				b.target.Query(t, "select k, v, day, d::numeric from kept where v <> 'mine' order by k"))
		})
	}
}
