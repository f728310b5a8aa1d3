package mapping

import (
	"fmt"

	"github.com/pgdts/pgdts/workflows/migration"
)

// named is a type, or a function with its argument types, which is all that can share a name with another one.
type named struct {
	Kind, Schema, Name, Arguments string
}

// readNamed leaves out array types, whose names the server chooses so that they fit, and the row types of tables.
const readNamed = `
select 'type', n.nspname::text, t.typname::text, ''
from pg_type t join pg_namespace n on n.oid = t.typnamespace
left join pg_class c on c.oid = t.typrelid
where ` + ofUsers + ` and (t.typrelid = 0 or c.relkind = 'c') and not (t.typelem <> 0 and t.typlen = -1 and t.typinput = 'array_in'::regproc)
  and not exists (select from pg_depend e where e.classid = 'pg_type'::regclass and e.objid = t.oid and e.deptype = 'e')
union all
select 'function', n.nspname::text, p.proname::text, p.proargtypes::text
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where ` + ofUsers + `
  and not exists (select from pg_depend e where e.classid = 'pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e')
order by 1, 2, 3, 4`

// space is a kind of names of which one schema has each once.
type space string

const (
	spaceRelations space = "relation"
	spaceTypes     space = "type" // tables and views have row types
	spaceFunctions space = "function"
)

// holder finds two things that would have one name on the target.
type holder struct {
	r     *resolver
	taken map[holding]string
}

type holding struct {
	space space
	name  migration.TableName
	args  string
}

// hold records what something is called, and says so when something else is called that already. Tables among themselves
// are looked at where they are merged.
func (h holder) hold(in space, title string, from, to migration.TableName, args string) {
	key := holding{in, to, args}
	title = title + " " + from.String()
	switch other, ok := h.taken[key]; {
	case !ok:
		h.taken[key] = title
	case other != title:
		h.r.problem(KindNames, to.String(), "rename one of them, or leave one out",
			"%s and %s would both be called %s on the target", other, title, to)
	}
}

// collide looks for names that two things get on the target.
func (r *resolver) collide(relations []relation, others []named) {
	h := holder{r, map[holding]string{}}
	s := r.selection
	arrives := map[migration.TableName]bool{}
	for _, table := range s.Tables {
		arrives[table.Name] = true
		if key := (holding{spaceRelations, table.Target, ""}); h.taken[key] == "" {
			h.hold(spaceRelations, "table", table.Name, table.Target, "")
			h.hold(spaceTypes, "table", table.Name, table.Target, "")
		}
	}
	for _, other := range relations {
		if other.Owner == "" && s.WholeSchema(other.Schema) && !s.Excluded(other.name()) {
			arrives[other.name()] = true
			h.hold(spaceRelations, otherKinds[other.Kind], other.name(), s.Names.Relation(other.name()), "")
			if other.Kind != "S" {
				h.hold(spaceTypes, otherKinds[other.Kind], other.name(), s.Names.Relation(other.name()), "")
			}
		}
	}
	for _, other := range relations {
		if other.Owner != "" && arrives[other.owner()] {
			h.hold(spaceRelations, otherKinds[other.Kind], other.name(), s.Names.Relation(other.name()), "")
		}
	}
	for _, other := range others {
		if s.WholeSchema(other.Schema) {
			from := migration.TableName{Schema: other.Schema, Name: other.Name}
			to := migration.TableName{Schema: s.Names.Schema(other.Schema), Name: other.Name}
			h.hold(space(other.Kind), other.Kind, from, to, other.Arguments)
		}
	}
}

// patternOf writes a name as a pattern that means it alone.
func patternOf(name migration.TableName) string {
	part := func(text string) string {
		for _, char := range text {
			if char == '.' || char == '*' || char == '?' || char == '"' {
				return migration.Quote(text)
			}
		}
		return text
	}
	return fmt.Sprintf("%s.%s", part(name.Schema), part(name.Name))
}
