package ddl

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Index is one that no constraint brings, and no index of a table above.
type Index struct {
	OID    uint32
	Table  uint32
	Name   string
	Unique bool
}

const readIndexes = `
select x.oid, ix.indrelid, x.relname::text, ix.indisunique
from pg_index ix join pg_class x on x.oid = ix.indexrelid
where ix.indrelid = any ($1) and ix.indisvalid and not ix.indisprimary
  and not exists (select from pg_inherits h where h.inhrelid = x.oid)
  and not exists (select from pg_constraint k where k.conrelid = ix.indrelid and k.conindid = x.oid and k.contype in ('p', 'u', 'x'))
order by ix.indrelid, x.relname`

// Indexes are those of some tables.
func Indexes(ctx context.Context, conn *pgx.Conn, relids []uint32) ([]Index, error) {
	rows, err := conn.Query(ctx, readIndexes, relids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Index])
}

// readMethod begins where the definition of an index no longer depends on its own name and the table's.
const readMethod = `
select substr(d, strpos(d, ' USING ' || quote_ident(m.amname) || ' ('))
from pg_class x join pg_am m on m.oid = x.relam, pg_get_indexdef(x.oid) d where x.oid = $1`

// Method is how an index is built: access method, columns, options, condition. pgx.ErrNoRows: it is gone.
func Method(ctx context.Context, conn *pgx.Conn, index uint32) (string, error) {
	var method string
	err := conn.QueryRow(ctx, readMethod, index).Scan(&method)
	return method, err
}

// Commented is a column, or with Column "" the table itself.
type Commented struct {
	Table  migration.TableName
	Column string
}

const readComments = `
select n.nspname::text, c.relname::text, coalesce(a.attname, '')::text, d.description
from unnest($1::text[], $2::text[]) wanted (schema, name)
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_description d on d.classoid = 'pg_class'::regclass and d.objoid = c.oid
left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid and d.objsubid > 0`

// Comments are those of some tables and their columns.
func Comments(ctx context.Context, conn *pgx.Conn, tables []migration.TableName) (map[Commented]string, error) {
	schemas, names := make([]string, len(tables)), make([]string, len(tables))
	for i, table := range tables {
		schemas[i], names[i] = table.Schema, table.Name
	}
	rows, err := conn.Query(ctx, readComments, schemas, names)
	if err != nil {
		return nil, err
	}
	comments := map[Commented]string{}
	var on Commented
	var text string
	_, err = pgx.ForEachRow(rows, []any{&on.Table.Schema, &on.Table.Name, &on.Column, &text}, func() error {
		comments[on] = text
		return nil
	})
	return comments, err
}
