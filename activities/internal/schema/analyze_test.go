package schema_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/workflows/migration"
)

// The planner of the opened target knows what the source's knew: a table's analysis in the copy comes before unique indexes over
// expressions, and nobody but us analyzes a tree as a whole.
func TestStatisticsAreThereBeforeTheTargetIsOpened(t *testing.T) {
	t.Parallel()
	m := newMove(t, `create table plain (id int primary key, v text); create index plain_lower on plain (lower(v)); create unique index plain_upper on plain (upper(v));
		create table tree (k int, v int) partition by range (k); create table tree_1 partition of tree for values from (0) to (500);
		create table tree_2 partition of tree for values from (500) to (1000) partition by range (k); create table tree_3 partition of tree_2 for values from (500) to (1000);
		create table parent (k int, v int); create table child () inherits (parent);
		create statistics correlated (dependencies) on k, v from parent;
		create materialized view stored as select v, count(*) from plain group by v; create table empty (k int) partition by range (k)`)
	m.cfg.Spec.Types = []migration.Type{migration.TypeSchema, migration.TypeFull}
	const rows = `insert into plain select g, 'v' || g from generate_series(1, 999) g; insert into tree select g, g % 7 from generate_series(1, 999) g;
		insert into child select g, g % 7 from generate_series(1, 999) g`
	m.source.Exec(t, rows)
	m.load(t)
	m.create(t, schema.Before)
	m.target.Exec(t, rows)
	m.create(t, schema.Key, schema.Index, schema.Constraint)
	const analyzed = "select distinct tablename::text, inherited from pg_stats where schemaname = 'public' and tablename in ('plain_lower', 'plain_upper', 'tree', 'parent', 'stored') order by 1"
	want := [][]string{{"parent", "t"}, {"plain_lower", "f"}, {"plain_upper", "f"}, {"stored", "f"}, {"tree", "t"}}
	require.Equal(t, want, m.target.Query(t, analyzed))
	require.Equal(t, [][]string{{"correlated"}}, m.target.Query(t, "select statistics_name::text from pg_stats_ext where inherited"))
	m.create(t, schema.Constraint)
}

// An analysis in the middle of the copy must not pass for the whole.
func TestStatisticsOfATreeAreThoseOfAllItsRows(t *testing.T) {
	t.Parallel()
	m := newMove(t, "create table parent (v int); create table child () inherits (parent)")
	m.cfg.Spec.Types = []migration.Type{migration.TypeSchema, migration.TypeFull}
	m.load(t)
	m.create(t, schema.Before)
	m.target.Exec(t, "insert into child select 1 from generate_series(1, 100)")
	m.target.Exec(t, "analyze parent")
	m.target.Exec(t, "insert into child select 2 from generate_series(1, 300)")
	m.create(t, schema.Key, schema.Index, schema.Constraint)
	require.Equal(t, [][]string{{"{2,1}"}}, m.target.Query(t, "select most_common_vals from pg_stats where tablename = 'parent' and inherited"))
}
