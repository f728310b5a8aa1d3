package schema_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Builds that run at once must not take a small server's memory together, and no DBA's setting is undercut.
func TestMemoryOfBuildsIsBoundedOverAllOfThem(t *testing.T) {
	t.Parallel()
	const megabyte = 1 << 20
	for name, c := range map[string]struct {
		spec               migration.Spec
		buffers, own, want int64 // megabytes
	}{
		"alone":                        {migration.Spec{Parallel: migration.Parallel{Copy: 8, Index: 1}}, 128, 64, 256},
		"two on a small server":        {migration.Spec{Parallel: migration.Parallel{Index: 2}}, 200, 64, 128},
		"two on a larger one":          {migration.Spec{Parallel: migration.Parallel{Index: 2}}, 8192, 64, 256},
		"all lanes, if nobody says":    {migration.Spec{Parallel: migration.Parallel{Copy: 16}}, 1024, 16, 64},
		"never less than the server's": {migration.Spec{Parallel: migration.Parallel{Copy: 16}}, 1024, 512, 512},
		"a class is an order":          {migration.Spec{Class: migration.ClassMedium, Parallel: migration.Parallel{Index: 2}}, 8192, 512, 128},
	} {
		if got := schema.BuildMemory(c.spec, c.buffers*megabyte, c.own*megabyte) / megabyte; got != c.want {
			t.Errorf("%s: %d MB, want %d", name, got, c.want)
		}
	}
}

// remembers shows what a build may use, and whether it reads with others: the index's expression says it to a sequence.
const remembers = `
create sequence seen; create sequence shared;
create function remember(int) returns int immutable language plpgsql as $$ begin
	perform pg_catalog.setval('public.seen', setting::bigint) from pg_catalog.pg_settings where name = 'maintenance_work_mem';
	perform pg_catalog.setval('public.shared', 2) where pg_catalog.current_setting('synchronize_seqscans') = 'on';
	return $1; end $$;
create table t (id int primary key, v int);
create index remembered on t (remember(v))`

func TestABuildHasItsShareOfTheMemoryAndReadsWithOthers(t *testing.T) {
	t.Parallel()
	m := newMove(t, remembers)
	m.cfg.Spec.Parallel.Index = 2
	m.load(t)
	m.create(t, schema.Before)
	m.target.Exec(t, "insert into t values (1, 1)")
	m.create(t, schema.Key, schema.Index)
	require.Equal(t, [][]string{{"131072", "2"}}, m.target.Query(t, "select seen.last_value, shared.last_value from seen, shared"))
}
