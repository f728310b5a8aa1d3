package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// unloggedTables: their changes are not in the log, and a publication refuses them.
func unloggedTables(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	var names, fixes []string
	for _, table := range tables {
		if table.Unlogged && table.Kind == "r" {
			names = append(names, table.Name.String())
			fixes = append(fixes, fmt.Sprintf("alter table %s set logged;", table.Name.SQL()))
		}
	}
	if len(names) == 0 {
		return passed("none"), nil
	}
	return alert(statements(fixes), "changes of unlogged tables are in no log, so what changes after they are copied is not carried over: %s",
		list(names)), nil
}

const readForeignTables = `
select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'f' and` + ofUsers + ` order by 1, 2`

func foreignTables(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return finding{}, err
	}
	found, err := rows[migration.TableName](ctx, l.source, readForeignTables)
	found = slices.DeleteFunc(found, func(name migration.TableName) bool { return !c.means(name) })
	if err != nil || len(found) == 0 {
		return passed("none"), err
	}
	return notice("", "the definition of foreign tables is migrated, their rows stay where they are, which the target has to reach: %s", list(names(found))), nil
}

func names(tables []migration.TableName) []string {
	texts := make([]string, len(tables))
	for i, table := range tables {
		texts[i] = table.String()
	}
	return texts
}

// largeObjects are not decoded by any server, and no publication holds them. What would be missing on the target is no
// notice.
func largeObjects(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return finding{}, err
	}
	n, err := value[int](ctx, l.source, "select count(*)::int from pg_largeobject_metadata")
	if err != nil || n == 0 {
		return passed("none"), err
	}
	if !c.Everything && !slices.ContainsFunc(c.Tables, refersToLargeObjects) {
		return passed("no selected table has a column that could name one of the %s", count(n, "large object")), nil
	}
	return alert("carry them over by yourself after the cutover: pg_dump --large-objects --data-only (before 16: --blobs), then pg_restore",
		"%s in pg_largeobject: they are not migrated", count(n, "large object")), nil
}

// refersToLargeObjects: a column of type oid, or of a domain over it, such as lo.
func refersToLargeObjects(t mapping.Table) bool {
	return slices.ContainsFunc(t.Columns, func(c catalog.Column) bool { return c.BaseOID == pgtype.OIDOID })
}

type rule struct {
	Schema, Name, Rule string
}

const readRules = `
select n.nspname::text, c.relname::text, r.rulename::text
from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.oid = any ($1) order by 1, 2, 3`

func rulesOnTables(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	found, err := rows[rule](ctx, l.source, readRules, oids(tables))
	if err != nil || len(found) == 0 {
		return passed("none"), err
	}
	texts := make([]string, len(found))
	for i, r := range found {
		texts[i] = fmt.Sprintf("%s on %s.%s", r.Rule, r.Schema, r.Name)
	}
	if !withChanges(l.Spec) {
		return notice("", "rules on tables are created after the rows, since they would rewrite what is written: %s", list(texts)), nil
	}
	return notice("", "rules on tables are created when the target is opened, since they would rewrite what is applied: %s", list(texts)), nil
}

// readCFunctions reads functions in C with their statements. What an extension brings is its own affair.
const readCFunctions = `
select c.oid, i.identity, pg_get_functiondef(c.oid)
from pg_proc c join pg_namespace n on n.oid = c.pronamespace join pg_language l on l.oid = c.prolang
cross join lateral pg_identify_object(c.tableoid, c.oid, 0) i
where l.lanname = 'c' and c.oid >= 16384 and` + notOfExtension + `
order by 2`

type function struct {
	OID        uint32
	Identity   string
	Definition string
}

// readFallen follows what needs the functions $1: types, defaults, checks and other objects, down to tables and the titles of
// the rest. A default or a check needs no table, but the table has it in its own statement.
const readFallen = `
with recursive fallen (classid, objid) as (
    select 'pg_proc'::regclass::oid, w.oid from unnest($1::oid[]) w (oid)
    union
    select f.classid, f.objid
    from fallen l cross join lateral (
        select d.classid, d.objid from pg_depend d
        where d.refclassid = l.classid and d.refobjid = l.objid and d.deptype in ('n', 'a', 'i') and l.classid <> 'pg_class'::regclass
        union all
        select 'pg_class'::regclass::oid, a.adrelid from pg_attrdef a where l.classid = 'pg_attrdef'::regclass and a.oid = l.objid
        union all
        select 'pg_class'::regclass::oid, k.conrelid from pg_constraint k
        where l.classid = 'pg_constraint'::regclass and k.oid = l.objid and k.contype = 'c' and k.conrelid <> 0
        union all
        select 'pg_class'::regclass::oid, r.ev_class from pg_rewrite r where l.classid = 'pg_rewrite'::regclass and r.oid = l.objid
    ) f
)
select case when f.classid = 'pg_class'::regclass then f.objid else 0 end, i.type || ' ' || i.identity
from fallen f cross join lateral pg_identify_object(f.classid, f.objid, 0) i
where f.objid <> all ($1) and f.classid not in ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_rewrite'::regclass)
  and not exists (select from pg_type t where f.classid = 'pg_type'::regclass and t.oid = f.objid and t.typelem <> 0 and t.typlen = -1)
order by 2`

type fallen struct {
	Relation uint32
	Title    string
}

// cFunctions are left out, with everything that needs them, because nobody knows whether the target's host has their
// libraries. A table that goes with them would have no place for its rows.
func cFunctions(ctx context.Context, l *look) (finding, error) {
	need, err := l.facts.needed()
	if err != nil {
		return finding{}, err
	}
	all, err := rows[function](ctx, l.source, readCFunctions)
	if err != nil {
		return finding{}, err
	}
	var functions []uint32
	var named, fixes []string
	for _, f := range all {
		if need.has("pg_proc", f.OID) {
			functions, named = append(functions, f.OID), append(named, f.Identity)
			fixes = append(fixes, oneLine(strings.TrimSpace(f.Definition))+";")
		}
	}
	if len(named) == 0 {
		return passed("none"), nil
	}
	with, err := rows[fallen](ctx, l.source, readFallen, functions)
	if err != nil {
		return finding{}, err
	}
	c, err := l.facts.chosen()
	if err != nil {
		return finding{}, err
	}
	var tables, others []string
	for _, f := range with {
		if table, selected := c.Table(f.Relation); f.Relation != 0 && selected {
			tables = append(tables, table.Name.String())
		} else {
			others = append(others, f.Title)
		}
	}
	text := "functions written in C need a library on the target's host and are left out: " + list(named)
	if len(others) > 0 {
		text += "; what needs them is left out too: " + list(others)
	}
	if len(tables) > 0 {
		return failed("leave these tables out in the definition, or have their columns do without the functions on the source",
			"%s; so are tables, which then have no place for their rows: %s", text, list(tables)), nil
	}
	return alert("-- on the target as a superuser, after the migration and after their libraries were installed there:\n"+statements(fixes), "%s", text), nil
}
