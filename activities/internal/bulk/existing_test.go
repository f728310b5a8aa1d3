package bulk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestConstraintsThatSeveralSnapshotsCouldBreakAreFound(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 15} {
		db := pgtest.Database(t, pgtest.Server(t, pgtest.Major(major)))
		db.Exec(t, `
create table plain (a int, b int, primary key (a)); create index on plain (b);
create table wider (a int, b int, primary key (a), unique (b, a));
create table secondary (a int primary key, b int unique);
create table partial (a int primary key, b int); create unique index on partial (b) where b > 0;
create table expressed (a int primary key, b int); create unique index on expressed (abs(b));
create table excluding (a int primary key, r int4range, exclude using gist (r with &&));
create table otherkey (a int, b int primary key); insert into otherkey values (1, 1)`)
		if major > 10 {
			db.Exec(t, "create table carrying (a int primary key, b int); create unique index on carrying (b) include (a)")
		}
		server, err := pg.NewServer(migration.Target, migration.Endpoint{URI: db.URI}, nil)
		require.NoError(t, err)
		config := Config{Target: server, Spec: migration.Spec{Types: []migration.Type{migration.TypeFull, migration.TypeIncremental}}}
		tables, err := catalog.Tables(t.Context(), db.Conn(t))
		require.NoError(t, err)
		var selected []mapping.Table
		for _, table := range tables {
			table.Key, table.KeyTrusted, table.Found = []string{"a"}, true, true
			whole := mapping.Whole(table)
			whole.Existing = true
			selected = append(selected, whole)
		}
		found, err := config.lookAtExisting(t.Context(), db.Conn(t), selected)
		require.NoError(t, err)
		for _, table := range selected {
			name := table.Name.Name
			strict := name != "plain" && name != "wider"
			require.Equal(t, strict, found.strict[table.Target], name)
			require.Equal(t, name != "otherkey", found.empty[table.Target], name)
			mode := migration.ModeKeyRange
			if strict {
				mode = migration.ModeOneSnapshot
			}
			require.Equal(t, mode, config.mode(table, found.strict[table.Target]), name)
			held := config
			held.Spec.Types = []migration.Type{migration.TypeFull}
			require.Equal(t, migration.ModeKeyRange, held.mode(table, found.strict[table.Target]), name)
		}
	}
}
