package precheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgdts/pgdts/workflows/migration"
)

type namedColumn struct {
	OID          uint32
	Schema, Name string
	Column, Type string
	Array        bool
}

// readNamedColumns finds types whose text is the name of something in the catalog. Domains are followed by one step.
const readNamedColumns = `
select c.oid, n.nspname::text, c.relname::text, a.attname::text, coalesce(e.typname, t.typname)::text, e.oid is not null
from pg_attribute a
join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
join pg_type d on d.oid = a.atttypid
join pg_type t on t.oid = case when d.typtype = 'd' then d.typbasetype else d.oid end
left join pg_type e on e.oid = t.typelem and t.typlen = -1
where c.oid = any ($1) and a.attnum > 0 and not a.attisdropped
  and coalesce(e.oid, t.oid) < 16384
  and coalesce(e.typname, t.typname) in ('regproc', 'regprocedure', 'regoper', 'regoperator', 'regclass', 'regconfig', 'regdictionary',
      'regrole', 'regnamespace', 'regcollation', 'aclitem')
order by 2, 3, 4`

// namedValues: a value that is a number of the source's catalog travels as the name of what it means. Where the target has
// no such thing when the row arrives, such as an index that is built when all rows are there, the copy stops.
func namedValues(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	found, err := rows[namedColumn](ctx, l.source, readNamedColumns, oids(tables))
	if err != nil || len(found) == 0 {
		return passed("no column holds numbers of the catalog"), err
	}
	var columns, fixes []string
	for _, f := range found {
		table := migration.TableName{Schema: f.Schema, Name: f.Name}
		array := ""
		if f.Array {
			array = "[]"
		}
		columns = append(columns, fmt.Sprintf("%s.%s (%s%s)", table, f.Column, f.Type, array))
		column := migration.Quote(f.Column)
		fixes = append(fixes, fmt.Sprintf("alter table %s alter column %s type text%s using %s::text%s;", table.SQL(), column, array, column, array))
	}
	return alert("-- on the source, where a value may name what the target does not have before the rows:\n"+statements(fixes),
		"columns hold names of roles, relations or functions, and a row whose name the target does not know when it arrives stops the copy: %s",
		list(columns)), nil
}

// readWithOIDs is asked of servers before 12.
const readWithOIDs = `select c.oid from pg_class c where c.relhasoids and c.relkind in ('r', 'p') and c.oid = any ($1)`

// readOIDReaders finds what reads the hidden column, which has the number -2. What a rule reads its view reads.
const readOIDReaders = `
select distinct i.type || ' ' || i.identity
from pg_depend d
left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
cross join lateral pg_identify_object(case when r.oid is null then d.classid else 'pg_class'::regclass end, coalesce(r.ev_class, d.objid), d.objsubid) i
where d.refclassid = 'pg_class'::regclass and d.refobjsubid = -2 and d.refobjid = any ($1) and i.type <> 'toast table'
order by 1`

// hiddenOIDs: no server since 12 has them, and no pg_dump since 12 tells of them.
func hiddenOIDs(ctx context.Context, l *look) (finding, error) {
	if l.source.version >= 120000 {
		return passed("the source's version has none"), nil
	}
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	found, err := rows[struct{ OID uint32 }](ctx, l.source, readWithOIDs, oids(tables))
	if err != nil {
		return finding{}, err
	}
	var named, fixes []string
	var with []uint32
	for _, table := range tables {
		if slices.Contains(found, struct{ OID uint32 }{table.OID}) {
			named, with = append(named, table.Name.String()), append(with, table.OID)
			fixes = append(fixes, fmt.Sprintf("alter table %s set without oids;", table.Name.SQL()))
		}
	}
	if len(named) == 0 {
		return passed("none"), nil
	}
	readers, err := rows[struct{ Title string }](ctx, l.source, readOIDReaders, with)
	if err != nil {
		return finding{}, err
	}
	text := "tables were made with oids, a hidden column whose values are not migrated: " + list(named)
	if len(readers) > 0 {
		var titles []string
		for _, r := range readers {
			titles = append(titles, r.Title)
		}
		return l.unmade("-- on the source, when these were dropped or written anew: "+oneLine(list(titles))+"\n"+statements(fixes),
			"%s; what reads it cannot be made on the target: %s", text, list(titles)), nil
	}
	return alert("-- on the source, when no application reads them:\n"+statements(fixes), "%s", text), nil
}

type parentCount struct {
	OID     uint32
	Parents []uint32
}

const readManyParents = `
select h.inhrelid, array_agg(h.inhparent order by h.inhseqno)
from pg_inherits h where h.inhrelid = any ($1) group by 1 having count(*) > 1`

// manyParents: columns that are renamed or left out are so in the parent, and go down from the first one alone.
func manyParents(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	found, err := rows[parentCount](ctx, l.source, readManyParents, oids(tables))
	if err != nil || len(found) == 0 {
		return passed("no table has several parents"), err
	}
	changed, names := map[uint32]bool{}, map[uint32]string{}
	for _, table := range tables {
		names[table.OID] = table.Name.String()
		kept := 0
		for _, column := range table.Into {
			if column.Source == column.Name {
				kept++
			}
		}
		changed[table.OID] = kept < len(table.DataColumns())
	}
	var bad []string
	for _, f := range found {
		if changed[f.OID] || slices.ContainsFunc(f.Parents, func(p uint32) bool { return changed[p] }) {
			bad = append(bad, names[f.OID])
		}
	}
	if len(bad) > 0 && withSchema(l.Spec) {
		return failed("leave the columns of these tables and of their parents as they are in the definition, or make the tables on the target first and "+
			"take schema out of types", "columns are renamed or left out in tables that inherit from several parents: %s", list(bad)), nil
	}
	return passed("%s with several parents, whose columns stay as they are", count(len(found), "table")), nil
}
