package apply

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// findTarget tells a partitioned table from one that holds rows.
const findTarget = `
select c.oid, c.relkind = 'p' from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')`

// readColumns gives types below domains, and asks a row of the catalog for columns that older servers do not have.
const readColumns = `
with recursive base as (
    select a.attnum, a.atttypid as oid from pg_attribute a where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
    union all
    select b.attnum, t.typbasetype from base b join pg_type t on t.oid = b.oid where t.typtype = 'd'
)
select a.attname, format_type(a.atttypid, -1), format_type(a.atttypid, a.atttypmod), t.oid, t.typtype = 'e',
       a.attidentity = 'a', coalesce(to_jsonb(a) ->> 'attgenerated', '') <> '',
       coalesce(to_jsonb(co) ->> 'collisdeterministic', 'true') = 'false', a.attnum
from pg_attribute a
join base b on b.attnum = a.attnum
join pg_type t on t.oid = b.oid and t.typtype <> 'd'
left join pg_collation co on co.oid = a.attcollation
where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
order by a.attnum`

// readKeys gives the columns of each index that can tell rows apart, with the operators that do.
const readKeys = `
select array_agg(a.attname::text order by s), array_agg(format('operator(%I.%s)', n.nspname, o.oprname) order by s)
from pg_index i
cross join lateral generate_subscripts(i.indclass, 1) s
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[s]
join pg_opclass oc on oc.oid = i.indclass[s]
join pg_amop am on am.amopfamily = oc.opcfamily and am.amopstrategy = 3
     and am.amoplefttype = oc.opcintype and am.amoprighttype = oc.opcintype
join pg_operator o on o.oid = am.amopopr
join pg_namespace n on n.oid = o.oprnamespace
where i.indrelid = $1 and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null
group by i.indexrelid`

// counterpart is a table of the target as it is now.
type counterpart struct {
	alter     string // the start of a statement that alters it: a partition is altered by its root
	whole     bool
	columns   map[string]column
	generated []string
	operators map[string]string // of the key, by column
}

var errNoTarget = errors.New("the table does not exist on the target")

// describe reads a table of the target. No pipeline may be open.
func describe(ctx context.Context, conn *pgx.Conn, name migration.TableName, key []string) (*counterpart, error) {
	c := &counterpart{columns: map[string]column{}}
	var oid uint32
	err := conn.QueryRow(ctx, findTarget, name.Schema, name.Name).Scan(&oid, &c.whole)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errNoTarget
	}
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, readColumns, oid)
	if err != nil {
		return nil, err
	}
	var col column
	var generated bool
	_, err = pgx.ForEachRow(rows, []any{&col.name, &col.cast, &col.typ, &col.base, &col.enum, &col.always, &generated, &col.fuzzy, &col.num},
		func() error {
			if generated {
				c.generated = append(c.generated, col.name)
				return nil
			}
			c.columns[col.name] = col
			return nil
		})
	if err != nil {
		return nil, err
	}
	above, err := readFamily(ctx, conn, name)
	if err != nil {
		return nil, err
	}
	c.alter = "alter table " + name.SQL()
	if above.bound != "" {
		c.alter = "alter table " + above.names[len(above.names)-1].SQL()
	}
	if len(key) == 0 {
		return c, nil
	}
	return c, c.readOperators(ctx, conn, oid, key)
}

// readOperators leaves operators nil when no index is on exactly the key's columns.
func (c *counterpart) readOperators(ctx context.Context, conn *pgx.Conn, oid uint32, key []string) error {
	rows, err := conn.Query(ctx, readKeys, oid)
	if err != nil {
		return err
	}
	var names, operators []string
	_, err = pgx.ForEachRow(rows, []any{&names, &operators}, func() error {
		if !sameNames(names, key) {
			return nil
		}
		c.operators = map[string]string{}
		for i, name := range names {
			c.operators[name] = operators[i]
		}
		return nil
	})
	return err
}

func sameNames(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
