package precheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/syntax"
	"github.com/pgdts/pgdts/workflows/migration"
)

type body struct {
	Schema, Name string
	OID          uint32
	Text         string
}

// readBodies lists functions whose body the server keeps as a text, which nobody can follow a name into. Since 14 a body
// in SQL may be kept as a tree; such functions are rewritten like views.
const readBodies = `
select n.nspname::text, c.proname::text, c.oid, c.prosrc
from pg_proc c join pg_namespace n on n.oid = c.pronamespace join pg_language l on l.oid = c.prolang
where l.lanname not in ('c', 'internal') and %s and` + ofUsers + ` and` + notOfExtension + `
order by 1, 2`

// namesInCode: a function that names what is called otherwise on the target is created there and fails when it is called.
func namesInCode(ctx context.Context, l *look) (finding, error) {
	words, err := l.oldNames(ctx)
	if err != nil || len(words) == 0 {
		return passed("no name changes"), err
	}
	need, err := l.facts.needed()
	if err != nil {
		return finding{}, err
	}
	tree := "true"
	if l.source.version >= 140000 {
		tree = "c.prosqlbody is null"
	}
	bodies, err := rows[body](ctx, l.source, fmt.Sprintf(readBodies, tree))
	if err != nil {
		return finding{}, err
	}
	var found []string
	for _, b := range bodies {
		if !need.has("pg_proc", b.OID) {
			continue
		}
		if mentioned := syntax.Mentions(b.Text, words); len(mentioned) > 0 {
			found = append(found, fmt.Sprintf("%s.%s (%s)", b.Schema, b.Name, list(mentioned)))
		}
	}
	if len(found) == 0 {
		return passed("none of %s names what is called otherwise on the target", count(len(bodies), "function")), nil
	}
	return alert("write these functions with the new names on the target after the schema is there (create or replace function)",
		"names change, and the bodies of functions, which are text, are not rewritten: these mention such a name: %s", list(found)), nil
}

const readRelations = `
select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('v', 'm', 'f') and` + ofUsers + ` order by 1, 2`

// oldNames are names of schemas, relations and columns that are others on the target, or are not there.
func (l *look) oldNames(ctx context.Context) ([]string, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return nil, err
	}
	changed := map[string]bool{}
	relations, err := rows[migration.TableName](ctx, l.source, readRelations)
	if err != nil {
		return nil, err
	}
	for _, name := range relations {
		if c.means(name) {
			changed[name.Name] = changed[name.Name] || c.Names.Relation(name).Name != name.Name
			changed[name.Schema] = changed[name.Schema] || c.Names.Schema(name.Schema) != name.Schema
		}
	}
	for _, table := range c.Tables {
		changed[table.Name.Name] = changed[table.Name.Name] || table.Target.Name != table.Name.Name
		changed[table.Name.Schema] = changed[table.Name.Schema] || table.Target.Schema != table.Name.Schema
		kept := map[string]bool{}
		for _, column := range table.Into {
			kept[column.Source] = column.Name == column.Source
		}
		for _, column := range table.DataColumns() {
			changed[column.Name] = changed[column.Name] || !kept[column.Name]
		}
	}
	var words []string
	for name, is := range changed {
		if is {
			words = append(words, name)
		}
	}
	slices.Sort(words)
	return words, nil
}

type leftOut struct {
	Kind, Schema, Name string
	OID                uint32
}

// readBeside lists what stands beside the tables $2 in the schemas $1 and is more than a table.
const readBeside = `
select case c.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'foreign table' end, n.nspname::text, c.relname::text, c.oid
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('v', 'm', 'f') and n.nspname = any ($1) and` + notOfExtension + `
union all
select 'function', n.nspname::text, c.proname::text, c.oid
from pg_proc c join pg_namespace n on n.oid = c.pronamespace
where n.nspname = any ($1) and` + notOfExtension + `
union all
select 'trigger', n.nspname::text, t.tgname || ' on ' || c.relname, t.oid
from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
where not t.tgisinternal and c.oid = any ($2) and n.nspname = any ($1)
order by 1, 2, 3`

// objectsLeftOut: who selects tables gets tables, and what they need to be there.
func objectsLeftOut(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return finding{}, err
	}
	schemas := []string{}
	for _, table := range c.Tables {
		if !c.WholeSchema(table.Name.Schema) && !slices.Contains(schemas, table.Name.Schema) {
			schemas = append(schemas, table.Name.Schema)
		}
	}
	if len(schemas) == 0 {
		return passed("whole schemas are selected"), nil
	}
	need, err := l.facts.needed()
	if err != nil {
		return finding{}, err
	}
	beside, err := rows[leftOut](ctx, l.source, readBeside, schemas, oids(c.Tables))
	if err != nil {
		return finding{}, err
	}
	var names []string
	for _, o := range beside {
		if o.Kind != "function" || !need.has("pg_proc", o.OID) {
			names = append(names, fmt.Sprintf("%s %s.%s", o.Kind, o.Schema, o.Name))
		}
	}
	if len(names) == 0 {
		return passed("nothing stands beside the selected tables"), nil
	}
	return notice("select the whole schema, with exclude, where they are wanted",
		"tables are selected rather than whole schemas, so %s of these schemas stay behind: %s", count(len(names), "other object"), list(names)), nil
}
