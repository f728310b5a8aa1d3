package precheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgdts/pgdts/workflows/migration"
)

// restricted is an object that only a superuser may make.
type restricted struct {
	Catalog string
	OID     uint32
	Title   string
}

// readRestricted leaves out functions in C, event triggers and extensions, which are items of their own. Arrays come with
// their elements. A function's support function, which came with 12, is taken from the row as a whole.
const readRestricted = `
select o.catalog::regclass::text, o.oid, i.type || ' ' || i.identity
from (
    select c.tableoid as catalog, c.oid, c.pronamespace as namespace
    from pg_proc c join pg_language l on l.oid = c.prolang left join pg_aggregate g on g.aggfnoid = c.oid
    where l.lanname <> 'c' and` + notOfExtension + `
      and (c.proleakproof or case when g.aggfnoid is null then not l.lanpltrusted else g.aggtranstype = 'internal'::regtype end
           or coalesce(to_jsonb(c) ->> 'prosupport', '-') not in ('-', '0'))
    union all
    select c.tableoid, c.oid, c.typnamespace from pg_type c
    where c.typtype = 'b' and not (c.typelem <> 0 and c.typlen = -1) and` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.opfnamespace from pg_opfamily c where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.prsnamespace from pg_ts_parser c where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.tmplnamespace from pg_ts_template c where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, 2200 from pg_am c where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, 2200 from pg_language c where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, 2200 from pg_foreign_data_wrapper c where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, 2200 from pg_cast c where c.castmethod = 'b' and` + notOfExtension + `
) o
left join pg_namespace n on n.oid = o.namespace
cross join lateral pg_identify_object(o.catalog, o.oid, 0) i
where o.oid >= 16384 and (n.oid is null or` + ofUsers + `)
order by 3`

// superuserObjects: a plain role, and the favoured role of a service, may make most things and not these.
func superuserObjects(ctx context.Context, l *look) (finding, error) {
	if l.target.super {
		return passed("role %s of the target is a superuser", l.target.role), nil
	}
	need, err := l.facts.needed()
	if err != nil {
		return finding{}, err
	}
	all, err := rows[restricted](ctx, l.source, readRestricted)
	if err != nil {
		return finding{}, err
	}
	var titles []string
	var types []uint32
	for _, r := range all {
		if !need.has(r.Catalog, r.OID) {
			continue
		}
		titles = append(titles, r.Title)
		if r.Catalog == "pg_type" {
			types = append(types, r.OID)
		}
	}
	if len(titles) == 0 {
		return passed("none"), nil
	}
	fix := fmt.Sprintf("-- on the target as a superuser, for the time of the migration; or schema: {onObjectFailure: skip} in the definition:\n"+
		"alter role %s superuser;", migration.Quote(l.target.role))
	tables, err := l.tablesOf(ctx, types)
	if err != nil {
		return finding{}, err
	}
	const found = "only a superuser may make these on the target, and role %s is none: %s"
	if len(tables) > 0 {
		return failed(fix, found+"; tables have columns of such types: %s", l.target.role, list(titles), list(tables)), nil
	}
	return l.unmade(fix, found, l.target.role, list(titles)), nil
}

const readTablesOf = `
select distinct a.attrelid
from pg_attribute a join pg_type t on t.oid = a.atttypid
where (t.oid = any ($1) or t.typelem = any ($1) and t.typlen = -1) and a.attnum > 0 and not a.attisdropped`

// tablesOf are the selected tables with columns of some types.
func (l *look) tablesOf(ctx context.Context, types []uint32) ([]string, error) {
	tables, err := l.tables()
	if err != nil || len(types) == 0 {
		return nil, err
	}
	found, err := rows[struct{ OID uint32 }](ctx, l.source, readTablesOf, types)
	var named []string
	for _, table := range tables {
		if slices.Contains(found, struct{ OID uint32 }{table.OID}) {
			named = append(named, table.Name.String())
		}
	}
	return named, err
}
