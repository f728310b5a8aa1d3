package precheck

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// checked is a check constraint that is made before the rows, with what it asks beside the row.
type checked struct {
	Table    uint32 // 0 = of a domain
	Domain   uint32
	Holder   string // "table only a.b", "domain a.d", as alter says it
	Name     string // quoted
	Text     string
	Changing []string // functions whose answer changes
	Bodies   []string // of users' functions that it calls
}

// readChecked finds functions in the trees of constraints, also behind operators. What is not valid yet comes after the rows.
const readChecked = `
select k.conrelid, k.contypid,
       case when k.conrelid <> 0 then 'table ' || k.conrelid::regclass else 'domain ' || k.contypid::regtype end,
       quote_ident(k.conname), pg_get_constraintdef(k.oid),
       array(select distinct p.proname::text
             from regexp_matches(k.conbin::text, ':(?:funcid|opfuncid) (\d+)', 'g') m join pg_proc p on p.oid = m[1]::oid
             where p.provolatile <> 'i'
             union select 'the time or the user' where k.conbin::text like '%{SQLVALUEFUNCTION%' order by 1),
       array(select p.prosrc
             from regexp_matches(k.conbin::text, ':(?:funcid|opfuncid) (\d+)', 'g') m join pg_proc p on p.oid = m[1]::oid
             join pg_language l on l.oid = p.prolang
             where p.oid >= 16384 and l.lanname not in ('c', 'internal'))
from pg_constraint k join pg_namespace n on n.oid = k.connamespace
where k.contype = 'c' and k.convalidated and k.coninhcount = 0 and` + ofUsers + `
order by 3, 4`

// readsTable finds the relation that a query in a body reads, behind its schema or alone.
var readsTable = regexp.MustCompile(`(?i)\b(?:from|join)\s+(?:only\s+)?(?:(?:"[^"]+"|[a-z_][\w$]*)\s*\.\s*)?("[^"]+"|[a-z_][\w$]*)`)

// reads lists the tables that bodies read.
func reads(bodies []string, things []findable) []string {
	var found []string
	for _, body := range bodies {
		for _, match := range readsTable.FindAllStringSubmatch(remarks.ReplaceAllString(body, " "), -1) {
			name := strings.ToLower(match[1])
			if strings.HasPrefix(match[1], `"`) {
				name = strings.Trim(match[1], `"`)
			}
			known := slices.ContainsFunc(things, func(t findable) bool { return t.Kind == "relation" && t.Name == name })
			if known && !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
	}
	return found
}

func (c checked) statements() []string {
	add := fmt.Sprintf("add constraint %s %s not valid", c.Name, oneLine(c.Text))
	if c.Table != 0 {
		return []string{fmt.Sprintf("alter %s drop constraint %s, %s;", c.Holder, c.Name, add)}
	}
	return []string{fmt.Sprintf("alter %s drop constraint %s;", c.Holder, c.Name), fmt.Sprintf("alter %s %s;", c.Holder, add)}
}

// changingChecks: a check that was true when its row was written need not be so when the row is copied. It may ask for the
// time, depend on a setting such as the time zone, which is UTC in our sessions, or look into a table that has no rows yet.
func changingChecks(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return finding{}, err
	}
	need, err := l.facts.needed()
	if err != nil {
		return finding{}, err
	}
	all, err := rows[checked](ctx, l.source, readChecked)
	if err != nil {
		return finding{}, err
	}
	things, err := rows[findable](ctx, l.source, readFindable)
	if err != nil {
		return finding{}, err
	}
	var named, fixes []string
	for _, k := range all {
		if _, selected := c.Table(k.Table); !selected && (k.Table != 0 || !need.has("pg_type", k.Domain)) {
			continue
		}
		var why []string
		if len(k.Changing) > 0 {
			why = append(why, "asks "+list(k.Changing))
		}
		if tables := reads(k.Bodies, things); len(tables) > 0 {
			why = append(why, "reads "+list(tables))
		}
		if len(why) > 0 {
			named = append(named, fmt.Sprintf("%s of %s (%s)", k.Name, k.Holder, strings.Join(why, ", ")))
			fixes = append(fixes, k.statements()...)
		}
	}
	if len(named) == 0 {
		return passed("none of %s asks for more than its row", count(len(all), "check")), nil
	}
	return alert("-- on the source; they hold for new rows as before, and are made on the target after the rows:\n"+statements(fixes),
		"checks ask for more than their row, and one that says no when a row is copied stops the copy: %s", list(named)), nil
}

type invalidIndex struct {
	Schema, Name, Table string
	OID                 uint32
	Unique              bool
}

const readInvalidIndexes = `
select n.nspname::text, x.relname::text, c.relname::text, c.oid, i.indisunique
from pg_index i
join pg_class x on x.oid = i.indexrelid and x.relkind = 'i'
join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
where not i.indisvalid and c.relkind in ('r', 'm') and` + ofUsers + ` order by 1, 2`

// invalidIndexes are what a build that failed has left. No dump takes them.
func invalidIndexes(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return finding{}, err
	}
	found, err := rows[invalidIndex](ctx, l.source, readInvalidIndexes)
	if err != nil {
		return finding{}, err
	}
	var named, fixes []string
	for _, i := range found {
		if _, selected := c.Table(i.OID); selected {
			named = append(named, fmt.Sprintf("%s.%s on %s", i.Schema, i.Name, i.Table))
			fixes = append(fixes, fmt.Sprintf("reindex index %s;", qualified(i.Schema, i.Name)))
		}
	}
	if len(named) == 0 {
		return passed("none"), nil
	}
	return notice("-- on the source, where they are wanted:\n"+statements(fixes), "invalid indexes are not migrated: %s", list(named)), nil
}
