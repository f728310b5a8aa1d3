package bulk_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
)

func TestCopyBetweenVersions(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]int{{10, 18}, {18, 10}, {13, 17}, {12, 16}, {11, 14}} {
		t.Run(fmt.Sprintf("%d to %d", pair[0], pair[1]), func(t *testing.T) {
			source, target := pgtest.Server(t, pgtest.Major(pair[0])), pgtest.Server(t, pgtest.Major(pair[1]))
			b := newBenchOn(t, source, target, `
create type mood as enum ('sad', 'ok');
create table keyed (a int, b text, n numeric, f float8, m mood, at timestamptz, d bytea, arr int[], primary key (b, a));
create table keyless (a int, r int4range, x text)`)
			b.source.Exec(t, `
insert into keyed select g, md5(g::text), g / 7.0, g / 7.0::float8, 'ok', now() + g * interval '1 s', decode(md5(g::text), 'hex'), array[g, null]
    from generate_series(1, 5000) g;
insert into keyless select g % 3, int4range(g, g + 5), repeat('é', g % 50) from generate_series(1, 500) g`)
			b.config.ChunkBytes = 64 << 10
			require.Greater(t, b.plan().Chunks, 5)
			b.copy(2)
			pgtest.MustEqual(t, b.source, b.target)
		})
	}
}
