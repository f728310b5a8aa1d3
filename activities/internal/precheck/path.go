package precheck

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

// caller is a function that runs while rows are written or indexes are built, when no schema but pg_catalog is searched.
type caller struct {
	Schema, Name string
	OID          uint32
	Identity     string // with its arguments, qualified
	Body         string
	By           string // what calls it
	Table        uint32 // that By belongs to; 0 = a domain
}

// readCallers follows checks, indexes, generated columns (since 12) and materialized views to the functions that they call.
// A function with a search_path of its own finds what it means, and one that is kept as a tree has found it already (14).
const readCallers = `
select distinct n.nspname::text, c.proname::text, c.oid,
       format('%I.%I(%s)', n.nspname, c.proname, pg_get_function_identity_arguments(c.oid)), c.prosrc, i.type || ' ' || i.identity, u.tab
from (
    select d.refobjid as func, d.classid, d.objid,
           coalesce(k.conrelid, x.indrelid, a.adrelid, w.ev_class, 0) as tab, coalesce(w.ev_class, 0) as view
    from pg_depend d
    left join pg_constraint k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid and k.contype in ('c', 'x')
    left join pg_index x on d.classid = 'pg_class'::regclass and x.indexrelid = d.objid
    left join (pg_attrdef a join pg_attribute g on g.attrelid = a.adrelid and g.attnum = a.adnum and to_jsonb(g) ->> 'attgenerated' = 's')
        on d.classid = 'pg_attrdef'::regclass and a.oid = d.objid
    left join (pg_rewrite w join pg_class m on m.oid = w.ev_class and m.relkind = 'm' and m.relispopulated)
        on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
    where d.refclassid = 'pg_proc'::regclass and coalesce(k.oid, x.indexrelid, a.oid, w.oid) is not null
) u
join pg_proc c on c.oid = u.func
join pg_namespace n on n.oid = c.pronamespace
join pg_language l on l.oid = c.prolang
cross join lateral pg_identify_object(case when u.view > 0 then 'pg_class'::regclass else u.classid end, case when u.view > 0 then u.view else u.objid end, 0) i
where l.lanname not in ('c', 'internal') and to_jsonb(c) ->> 'prosqlbody' is null
  and not exists (select from unnest(c.proconfig) o (text) where o.text like 'search\_path=%') and` + ofUsers + ` and` + notOfExtension + `
order by 4, 6`

// readFindable lists what a text may name without its schema: relations, functions and types of users.
const readFindable = `
select 'relation', c.relname::text, n.nspname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and` + ofUsers + `
union
select 'function', c.proname::text, n.nspname::text from pg_proc c join pg_namespace n on n.oid = c.pronamespace
where not exists (select from pg_proc p where p.proname = c.proname and p.pronamespace = 'pg_catalog'::regnamespace) and` + ofUsers + `
union
select 'type', c.typname::text, n.nspname::text from pg_type c join pg_namespace n on n.oid = c.typnamespace
where not exists (select from pg_type p where p.typname = c.typname and p.typnamespace = 'pg_catalog'::regnamespace) and` + ofUsers

type findable struct{ Kind, Name, Schema string }

// spellings are the places of a body where a name stands for something in the catalog, with what may stand there. A name
// with a dot before or behind it has its schema, or is one.
var spellings = map[string]*regexp.Regexp{
	"relation": regexp.MustCompile(`(?i)\b(?:from|join|into|update)\s+(?:only\s+)?("[^"]+"|[a-z_][\w$]*)(\s*\.)?`),
	"function": regexp.MustCompile(`(?i)(?:^|[^.\w"$])("[^"]+"|[a-z_][\w$]*)(\s*)\(`),
	"type":     regexp.MustCompile(`(?i)(?:::|\bas)\s*("[^"]+"|[a-z_][\w$]*)(\s*\.)?`),
}

var remarks = regexp.MustCompile(`(?s)--[^\n]*|/\*.*?\*/`)

// unqualified finds the names in a body that only a search_path leads to, with the schemas that it would have to have.
func unqualified(body string, things []findable) (found, schemas []string) {
	body = remarks.ReplaceAllString(body, " ")
	for _, kind := range []string{"relation", "function", "type"} {
		for _, match := range spellings[kind].FindAllStringSubmatch(body, -1) {
			if strings.HasSuffix(match[2], ".") {
				continue
			}
			name := strings.ToLower(match[1])
			if strings.HasPrefix(match[1], `"`) {
				name = strings.Trim(match[1], `"`)
			}
			for _, thing := range things {
				if thing.Kind != kind || thing.Name != name {
					continue
				}
				if !slices.Contains(found, name) {
					found = append(found, name)
				}
				if !slices.Contains(schemas, thing.Schema) {
					schemas = append(schemas, thing.Schema)
				}
			}
		}
	}
	return found, schemas
}

// searchedCode: such a function works on the source, where the application's sessions find what it names, and fails in ours,
// which find nothing: when the first row is copied, or when the index is built after the last one.
func searchedCode(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return finding{}, err
	}
	need, err := l.facts.needed()
	if err != nil {
		return finding{}, err
	}
	callers, err := rows[caller](ctx, l.source, readCallers)
	if err != nil {
		return finding{}, err
	}
	things, err := rows[findable](ctx, l.source, readFindable)
	if err != nil {
		return finding{}, err
	}
	var named, fixes []string
	for _, f := range callers {
		if _, selected := c.Table(f.Table); !selected && !need.has("pg_proc", f.OID) {
			continue
		}
		words, schemas := unqualified(f.Body, things)
		if len(words) == 0 {
			continue
		}
		fix := fmt.Sprintf("alter function %s set search_path = %s;", f.Identity, migration.QuoteList(append(schemas, "pg_catalog", "pg_temp")))
		if !slices.Contains(fixes, fix) {
			fixes = append(fixes, fix)
		}
		named = append(named, fmt.Sprintf("%s, which %s calls (%s)", f.Identity, f.By, list(words)))
	}
	if len(named) == 0 {
		return passed("%s that rows or indexes call, and none needs a search_path", count(len(callers), "function")), nil
	}
	return alert("-- on the source; it changes nothing else about them:\n"+statements(fixes),
		"these functions run while rows are written or indexes are built, and name things without their schemas, which are not found then: %s",
		list(named)), nil
}
