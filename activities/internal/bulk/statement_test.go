package bulk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

func orders() catalog.Table {
	return catalog.Table{
		OID: 1, Name: migration.TableName{Schema: "shop", Name: "Orders"}, Kind: "r", Key: []string{"id"},
		Columns: []catalog.Column{
			{Name: "id", Type: "bigint", BaseOID: 20, TypeKind: "b"},
			{Name: "Note", Type: "text", BaseOID: 25, TypeKind: "b"},
			{Name: "twice", Type: "integer", BaseOID: 23, TypeKind: "b", Generated: true},
		},
	}
}

// What is migrated as it is costs what it has always cost: the statements are the ones that were measured.
func TestStatementsOfPlainTablesAreAsTheyWere(t *testing.T) {
	t.Parallel()
	plain := mapping.Whole(orders())
	require.Equal(t, `copy (select "id", "Note" from only "shop"."Orders" where "id" >= '5'::bigint and "id" < '9'::bigint) to stdout with (format binary)`,
		copyOut(plain, span{low: []string{"5"}, high: []string{"9"}}, form{binary: true}))
	require.Equal(t, `copy (select "id", "Note" from only "shop"."Orders" where ctid >= '(7,0)'::tid and ctid < '(8,3)'::tid) to stdout`,
		copyOut(plain, span{low: []string{"(7,0)"}, high: []string{"(8,3)"}, byPlace: true}, form{}))
	require.Equal(t, `copy (select "id", "Note" from only "shop"."Orders") to stdout`, copyOut(plain, span{}, form{}))
	require.Equal(t, `copy "shop"."Orders" ("id", "Note") from stdin with (format binary)`, copyIn(plain.Target.SQL(), plain, form{binary: true}))
	plain.Condition = "WHERE NOT own"
	require.Equal(t, `copy (select "id", "Note" from only "shop"."Orders" WHERE NOT own) to stdout`, copyOut(plain, span{}, form{}))
	none := mapping.Whole(catalog.Table{Name: migration.TableName{Schema: "s", Name: "none"}, Kind: "r"})
	require.Equal(t, `copy (select  from only "s"."none") to stdout`, copyOut(none, span{}, form{}))
	require.Equal(t, `copy "s"."none" from stdin`, copyIn(none.Target.SQL(), none, form{}))
}

func TestFiltersAndExpressionsKeepToThemselves(t *testing.T) {
	t.Parallel()
	table := mapping.Whole(orders())
	table.Target = migration.TableName{Schema: "new", Name: "orders"}
	table.Into = []mapping.Column{{Name: "ID", Source: "id"}, {Name: "note", Source: "Note", Set: "upper(\"Note\") -- loud"}, {Name: "origin", Set: "'a'"}}
	table.Where, table.DropIf = "id > 1 or id < -1 -- both", "\"Note\" = 'x'"
	as := form{casts: map[string]string{"note": "text"}}
	require.Equal(t, `copy (select "id", (upper("Note") -- loud
)::text, ('a'
) from only "shop"."Orders" where "id" < '9'::bigint and (id > 1 or id < -1 -- both
) and ("Note" = 'x'
) is not true) to stdout`, copyOut(table, span{high: []string{"9"}}, as))
	require.Equal(t, `copy "new"."orders" ("ID", "note", "origin") from stdin`, copyIn(table.Target.SQL(), table, as))
	table.Condition = "WHERE NOT own OR mine"
	require.Contains(t, copyOut(table, span{}, as), `from (select * from only "shop"."Orders" WHERE NOT own OR mine
) as "Orders" where (id > 1`)
}
