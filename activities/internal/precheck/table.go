package precheck

import (
	"context"
	"fmt"
	"slices"

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

const readCFunctions = `
select n.nspname::text, c.proname::text, c.oid
from pg_proc c join pg_namespace n on n.oid = c.pronamespace join pg_language l on l.oid = c.prolang
where l.lanname = 'c' and c.oid >= 16384 and` + notOfExtension + `
order by 1, 2`

type function struct {
	Schema, Name string
	OID          uint32
}

func cFunctions(ctx context.Context, l *look) (finding, error) {
	need, err := l.facts.needed()
	if err != nil {
		return finding{}, err
	}
	all, err := rows[function](ctx, l.source, readCFunctions)
	if err != nil {
		return finding{}, err
	}
	var found []migration.TableName
	for _, f := range all {
		if need.has("pg_proc", f.OID) {
			found = append(found, migration.TableName{Schema: f.Schema, Name: f.Name})
		}
	}
	if len(found) == 0 {
		return passed("none"), nil
	}
	return notice("install their libraries on the target's host and create them there as a superuser",
		"functions written in C need a library on the target's host and are left out: %s", list(names(found))), nil
}
