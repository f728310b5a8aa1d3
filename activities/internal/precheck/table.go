package precheck

import (
	"context"
	"fmt"

	"github.com/pgdts/pgdts/workflows/migration"
)

// unloggedTables: their changes are not in the log, and a publication refuses them.
func unloggedTables(ctx context.Context, l *look) (finding, error) {
	tables, err := l.facts.tables()
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
	found, err := rows[migration.TableName](ctx, l.source, readForeignTables)
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
	n, err := value[int](ctx, l.source, "select count(*)::int from pg_largeobject_metadata")
	if err != nil || n == 0 {
		return passed("none"), err
	}
	return alert("carry them over by yourself after the cutover: pg_dump --large-objects --data-only (before 16: --blobs), then pg_restore",
		"%s in pg_largeobject: they are not migrated", count(n, "large object")), nil
}

type rule struct {
	Schema, Name, Rule string
}

const readRules = `
select n.nspname::text, c.relname::text, r.rulename::text
from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and` + ofUsers + ` order by 1, 2, 3`

func rulesOnTables(ctx context.Context, l *look) (finding, error) {
	found, err := rows[rule](ctx, l.source, readRules)
	if err != nil || len(found) == 0 {
		return passed("none"), err
	}
	texts := make([]string, len(found))
	for i, r := range found {
		texts[i] = fmt.Sprintf("%s on %s.%s", r.Rule, r.Schema, r.Name)
	}
	return notice("", "rules on tables are created when the target is opened, since they would rewrite what is applied: %s", list(texts)), nil
}

const readCFunctions = `
select n.nspname::text, c.proname::text
from pg_proc c join pg_namespace n on n.oid = c.pronamespace join pg_language l on l.oid = c.prolang
where l.lanname = 'c' and c.oid >= 16384 and` + notOfExtension + `
order by 1, 2`

func cFunctions(ctx context.Context, l *look) (finding, error) {
	found, err := rows[migration.TableName](ctx, l.source, readCFunctions)
	if err != nil || len(found) == 0 {
		return passed("none"), err
	}
	return notice("install their libraries on the target's host and create them there as a superuser",
		"functions written in C need a library on the target's host and are left out: %s", list(names(found))), nil
}
