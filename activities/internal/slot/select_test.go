package slot_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// prepared chooses and changes tables by hand, as a definition would.
func prepared(t *testing.T, b *slottest.Bench, leaveOut []string, change func(*mapping.Table)) {
	t.Helper()
	config := b.Config(t)
	config.Spec = b.Spec
	config.Tables = slices.DeleteFunc(config.Tables, func(table mapping.Table) bool { return slices.Contains(leaveOut, table.Name.Name) })
	for i := range config.Tables {
		if change != nil {
			change(&config.Tables[i])
		}
	}
	_, err := slot.Prepare(t.Context(), config)
	require.NoError(t, err)
}

const tree = `
create table tree (id int primary key, v text) partition by range (id);
create table tree_1 partition of tree for values from (0) to (10);
create table tree_2 partition of tree for values from (10) to (20);
create table tree_3 partition of tree for values from (20) to (30)`

func TestTablesThatAreNotSelectedAreNotPublished(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	prepared(t, b, []string{"keyed", "plain"}, nil)
	require.Equal(t, "indexed", published(t, b.From, b.Spec.ID.Publication()))
	require.Equal(t, "", published(t, b.From, b.Spec.ID.PublicationInsertOnly()))
}

func TestPartitionThatIsLeftOutIsNotStreamed(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), tree)
	b.Spec.Objects = []migration.Object{{Table: "public.tree*", Exclude: []string{"public.tree_2"}}}
	config := b.Config(t)
	config.Tables = slices.DeleteFunc(config.Tables, func(table mapping.Table) bool { return table.Name.Name == "tree_2" })
	_, err := slot.Prepare(t.Context(), config)
	require.NoError(t, err)
	require.Equal(t, "tree_1 tree_3", published(t, b.From, b.Spec.ID.Publication()))
}

func TestWholeTreeIsStillPublishedByItsRoot(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), tree+"; create table other (id int primary key)")
	b.Spec.Objects = []migration.Object{{Table: "public.tree*"}}
	prepared(t, b, []string{"other"}, nil)
	b.From.Exec(t, "create table tree_4 partition of tree for values from (30) to (40)")
	require.Equal(t, "tree_1 tree_2 tree_3 tree_4", published(t, b.From, b.Spec.ID.Publication()))
}

// Only the partition is meant, so that nothing of its siblings may be streamed.
func TestPartitionAloneIsPublishedAlone(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), tree)
	b.Spec.Objects = []migration.Object{{Table: "public.tree_2"}}
	prepared(t, b, []string{"tree", "tree_1", "tree_3"}, nil)
	require.Equal(t, "tree_2", published(t, b.From, b.Spec.ID.Publication()))
}

func TestOldRowsAreAskedForWhereAnExpressionNeedsThem(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables+";"+tree)
	b.Spec.Identity = migration.IdentitySetFull
	identities := func() string {
		return pgtest.Value[string](t, b.From, `select string_agg(relname || '=' || relreplident::text, ' ' order by relname)
			from pg_class where relname in ('keyed', 'indexed', 'plain', 'tree', 'tree_1', 'tree_2', 'tree_3')`)
	}
	before := identities()
	prepared(t, b, nil, func(table *mapping.Table) {
		table.NeedsOldRows = table.Name.Name != "plain"
		table.Where = "v is not null"
	})
	require.Equal(t, "indexed=f keyed=f plain=d tree=d tree_1=f tree_2=f tree_3=f", identities())
	// A partition that is made later would not have the identity.
	require.Equal(t, []string{"indexed", "keyed", "tree_1", "tree_2", "tree_3"}, members(t, b, b.Spec.ID.Publication()))
	b.Drop(t)
	require.Equal(t, before, identities())
}

func members(t *testing.T, b *slottest.Bench, publication string) []string {
	t.Helper()
	return pgtest.Value[[]string](t, b.From, `select array_agg(r.prrelid::regclass::text order by 1)
		from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = $1`, publication)
}

func TestIdentityStaysWhereTheDefinitionSaysSo(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	prepared(t, b, nil, func(table *mapping.Table) { table.NeedsOldRows = true })
	require.Zero(t, pgtest.Value[int](t, b.From, "select count(*) from pg_class where relreplident = 'f'"))
}

func TestEachTableHasItsOwnPolicyWithoutKey(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), "create table a (v int); create table b (v int)")
	prepared(t, b, nil, func(table *mapping.Table) {
		if table.Name.Name == "b" {
			table.WithoutKey = migration.FullIdentity
		}
	})
	require.Equal(t, "b", published(t, b.From, b.Spec.ID.Publication()))
	require.Equal(t, "a", published(t, b.From, b.Spec.ID.PublicationInsertOnly()))
}

// Operations that are left out are left out where changes are applied: a definition may change its mind before the end.
func TestTablesOfFewOperationsArePublishedInFull(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	prepared(t, b, nil, func(table *mapping.Table) { table.Operations = migration.Operations{migration.OperationInsert} })
	require.Equal(t, "indexed keyed", published(t, b.From, b.Spec.ID.Publication()))
}

func TestSourceWithNothingOfOursNeedNotAnswer(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	b := slottest.New(t, server, someTables)
	target := slottest.New(t, pgtest.Shared(t), "")
	l := target.Ledger(t)
	require.NoError(t, server.Kill())
	owed, err := slot.Drop(t.Context(), b.Source, l)
	require.NoError(t, err)
	require.Empty(t, owed)
}
