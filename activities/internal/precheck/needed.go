package precheck

import (
	"context"
	"slices"
)

// needed are the objects of the source that a definition brings: by catalog, their oids. nil = all.
type needed map[string]map[uint32]bool

func (n needed) has(catalog string, oid uint32) bool { return n == nil || n[catalog][oid] }

type neededObject struct {
	Catalog string
	OID     uint32
}

// readNeeded follows pg_depend from the selected tables ($1) and from what is in the schemas that are meant as a whole
// ($2): to types, functions, collations, sequences and extensions, and through what comes with a table (defaults, checks,
// indexes, identity sequences, policies, rules). Other tables are not followed: they are selected or they are not.
const readNeeded = `
with recursive need (classid, objid) as (
    select * from (
        select 'pg_class'::regclass::oid, w.oid from unnest($1::oid[]) w (oid)
        union all select c.tableoid, c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = any ($2) and c.relkind not in ('r', 'p')
        union all select c.tableoid, c.oid from pg_type c join pg_namespace n on n.oid = c.typnamespace where n.nspname = any ($2)
        union all select c.tableoid, c.oid from pg_proc c join pg_namespace n on n.oid = c.pronamespace where n.nspname = any ($2)
        union all select c.tableoid, c.oid from pg_operator c join pg_namespace n on n.oid = c.oprnamespace where n.nspname = any ($2)
        union all select c.tableoid, c.oid from pg_collation c join pg_namespace n on n.oid = c.collnamespace where n.nspname = any ($2)
    ) seed
    union
    select f.classid, f.objid
    from need n cross join lateral (
        select d.refclassid as classid, d.refobjid as objid
        from pg_depend d
        where d.classid = n.classid and d.objid = n.objid and d.refobjid >= 16384
          and (d.refclassid <> 'pg_class'::regclass or exists (
              select from pg_class c where c.oid = d.refobjid and c.relkind in ('S', 'c', 'i', 'I')))
        union all
        select d.classid, d.objid
        from pg_depend d
        where d.refclassid = n.classid and d.refobjid = n.objid and d.deptype in ('a', 'i')
          and (d.classid in ('pg_attrdef'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass)
               or d.classid = 'pg_constraint'::regclass and exists (
                   select from pg_constraint k where k.oid = d.objid and k.contype <> 'f')
               or d.classid = 'pg_class'::regclass and exists (
                   select from pg_class c where c.oid = d.objid and c.relkind in ('S', 'c', 'i', 'I')))
    ) f
)
select classid::regclass::text, objid from need`

const readSchemas = `select n.nspname::text from pg_namespace n where` + ofUsers + ` order by 1`

// readNeeded asks nothing when everything is meant.
func (l *look) readNeeded(ctx context.Context) (needed, error) {
	c, err := l.facts.chosen()
	if err != nil || c.Everything {
		return nil, err
	}
	whole, err := l.wholeSchemas(ctx)
	if err != nil {
		return nil, err
	}
	found, err := rows[neededObject](ctx, l.source, readNeeded, oids(c.Tables), whole)
	n := needed{}
	for _, o := range found {
		if n[o.Catalog] == nil {
			n[o.Catalog] = map[uint32]bool{}
		}
		n[o.Catalog][o.OID] = true
	}
	return n, err
}

// wholeSchemas are the source's schemas that are meant with all that is in them.
func (l *look) wholeSchemas(ctx context.Context) ([]string, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return nil, err
	}
	found, err := rows[struct{ Name string }](ctx, l.source, readSchemas)
	whole := []string{}
	for _, f := range found {
		if c.WholeSchema(f.Name) {
			whole = append(whole, f.Name)
		}
	}
	return slices.Clip(whole), err
}
