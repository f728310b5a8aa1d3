package mapping

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// counterpart is a relation of the target under the name of a selected table.
type counterpart struct {
	Schema, Name, Kind string
	Columns            []counterColumn
	Keys               [][]string // columns of unique indexes by which a row can be found
}

type counterColumn struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Category  string `json:"category"` // typcategory
	NotNull   bool   `json:"notNull"`
	Default   bool   `json:"default"`
	Generated bool   `json:"generated"`
}

func (c counterpart) isTable() bool { return c.Kind == "r" || c.Kind == "p" }

func (c counterpart) column(name string) (counterColumn, bool) {
	for _, column := range c.Columns {
		if column.Name == name {
			return column, true
		}
	}
	return counterColumn{}, false
}

// finds reports whether a unique index is on exactly these columns, in whatever order.
func (c counterpart) finds(key []string) bool {
	wanted := slices.Sorted(slices.Values(key))
	return slices.ContainsFunc(c.Keys, func(columns []string) bool {
		return slices.Equal(slices.Sorted(slices.Values(columns)), wanted)
	})
}

// readTarget takes attgenerated (since 12) and indnkeyatts (since 11) from the row as a whole.
const readTarget = `
select n.nspname::text, c.relname::text, c.relkind::text,
    (select coalesce(jsonb_agg(jsonb_build_object(
         'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'category', t.typcategory, 'notNull', a.attnotnull, 'default', a.atthasdef or a.attidentity <> '' or t.typdefault is not null,
         'generated', coalesce(to_jsonb(a) ->> 'attgenerated', '') <> '') order by a.attnum), '[]')
     from pg_attribute a join pg_type t on t.oid = a.atttypid
     where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
    (select coalesce(jsonb_agg(k.columns), '[]')
     from pg_index i cross join lateral (
         select jsonb_agg(a.attname order by p.n) as columns
         from generate_series(0, coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts) - 1) p (n)
         join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[p.n]
     ) k
     where i.indrelid = c.oid and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null)
from (select distinct w.schema, w.name from unnest($1::text[], $2::text[]) w (schema, name)) w
join pg_namespace n on n.nspname = w.schema
join pg_class c on c.relnamespace = n.oid and c.relname = w.name`

// readCounterparts asks for all tables in one round trip.
func readCounterparts(ctx context.Context, target *pgx.Conn, tables []Table) (map[migration.TableName]counterpart, error) {
	schemas, names := make([]string, len(tables)), make([]string, len(tables))
	for i, table := range tables {
		schemas[i], names[i] = table.Target.Schema, table.Target.Name
	}
	found, err := ask[counterpart](ctx, target, readTarget, pgx.RowToStructByPos, schemas, names)
	there := make(map[migration.TableName]counterpart, len(found))
	for _, c := range found {
		there[migration.TableName{Schema: c.Schema, Name: c.Name}] = c
	}
	return there, err
}

const readTypes = `select oid, typcategory::text as category from pg_type where oid < 16384`

func readCategories(ctx context.Context, target *pgx.Conn) (map[uint32]string, error) {
	type known struct {
		OID      uint32
		Category string
	}
	types, err := ask[known](ctx, target, readTypes, pgx.RowToStructByPos)
	categories := make(map[uint32]string, len(types))
	for _, t := range types {
		categories[t.OID] = t.Category
	}
	return categories, err
}
