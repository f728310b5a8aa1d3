package compare

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
)

// unlike reports whether the target's table must be looked at: it is not ours, takes values that the source's table does
// not have, or is searched row by row.
func unlike(t mapping.Table) bool {
	if promise, _ := PromiseOf(t); promise == Subset || t.Existing {
		return true
	}
	for _, column := range t.Into {
		if column.Set != "" {
			return true
		}
	}
	return false
}

// readShapes finds a column's built-in type through domains over domains, and the operator of its type's default index.
const readShapes = `
select w.no, c.relkind = 'p', a.attname, format_type(a.atttypid, a.atttypmod), b.oid,
       coalesce((select 'operator(' || quote_ident(n.nspname) || '.' || o.oprname || ')'
                 from pg_opclass k
                 join pg_am m on m.oid = k.opcmethod and m.amname = 'btree'
                 join pg_amop f on f.amopfamily = k.opcfamily and f.amopstrategy = 3
                     and f.amoplefttype = k.opcintype and f.amoprighttype = k.opcintype
                 join pg_operator o on o.oid = f.amopopr
                 join pg_namespace n on n.oid = o.oprnamespace
                 where k.opcintype = b.oid and k.opcdefault limit 1), '='),
       exists (select from pg_index i where i.indrelid = c.oid and i.indkey[0] = a.attnum and i.indisvalid and i.indpred is null)
from unnest($1::text[], $2::text[]) with ordinality w (schema, name, no)
join pg_namespace s on s.nspname = w.schema
join pg_class c on c.relnamespace = s.oid and c.relname = w.name
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
cross join lateral (
    with recursive base as (
        select t.oid, t.typtype, t.typbasetype from pg_type t where t.oid = a.atttypid
        union all
        select t.oid, t.typtype, t.typbasetype from base d join pg_type t on t.oid = d.typbasetype where d.typtype = 'd'
    )
    select base.oid from base where base.typtype <> 'd'
) b`

// describe looks at the target's tables that are not the source's, in one query for all of them.
func (v *verification) describe(ctx context.Context) error {
	v.shapes = make([]shape, len(v.Tables))
	var schemas, names []string
	var which []int
	for i, t := range v.Tables {
		if unlike(t) {
			schemas, names, which = append(schemas, t.Target.Schema), append(names, t.Target.Name), append(which, i)
			v.shapes[i].columns = map[string]targetColumn{}
		}
	}
	if len(which) == 0 {
		return nil
	}
	target, err := v.Target.Connect(ctx, v.Session)
	if err != nil {
		return err
	}
	defer pg.Close(target)
	rows, err := target.Query(ctx, readShapes, schemas, names)
	if err != nil {
		return v.Target.Fault("read columns of", v.Target.Database(), err)
	}
	var no int
	var partitioned, indexed bool
	var name string
	var column targetColumn
	_, err = pgx.ForEachRow(rows, []any{&no, &partitioned, &name, &column.typ, &column.base, &column.equal, &indexed}, func() error {
		s := &v.shapes[which[no-1]]
		s.partitioned, s.columns[name] = partitioned, column
		if key := v.Tables[which[no-1]].TargetKey; len(key) > 0 && key[0] == name {
			s.indexed = indexed
		}
		return nil
	})
	if err != nil {
		return v.Target.Fault("read columns of", v.Target.Database(), err)
	}
	return v.knowTypes(ctx, which)
}

const readKnown = `select w.name from unnest($1::text[]) w (name) where to_regtype(w.name) is not null`

// knowTypes asks the source which of the target's types it has too.
func (v *verification) knowTypes(ctx context.Context, which []int) error {
	distinct := map[string]bool{}
	var types []string
	for _, i := range which {
		for _, column := range v.shapes[i].columns {
			if !distinct[column.typ] {
				distinct[column.typ] = true
				types = append(types, column.typ)
			}
		}
	}
	source, err := v.Source.Connect(ctx, v.Session)
	if err != nil {
		return err
	}
	defer pg.Close(source)
	known, err := pg.Strings(ctx, source, readKnown, types)
	if err != nil {
		return v.Source.Fault("look for types of", v.Source.Database(), err)
	}
	there := map[string]bool{}
	for _, name := range known {
		there[name] = true
	}
	for _, i := range which {
		for name, column := range v.shapes[i].columns {
			column.known = there[column.typ]
			v.shapes[i].columns[name] = column
		}
	}
	return nil
}
