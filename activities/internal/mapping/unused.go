package mapping

import (
	"maps"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

// unused says which words of a definition mean nothing that is there: most often they are misspelt, and what they should
// have meant would be migrated, or left out, silently.
func (r *resolver) unused() {
	r.ask()
	for _, e := range r.entries.all {
		switch {
		case !e.matched && e.Schema != "":
			r.problem(KindSelection, e.title(), "correct or remove the entry", "%s means no schema of the source", e.title())
			continue
		case !e.matched:
			r.problem(KindSelection, e.title(), "correct or remove the entry", "%s means no table of the source%s", e.title(), r.instead(e))
			continue
		}
		for _, x := range e.exclude {
			if !x.matched && !x.name.wild() {
				r.alert(KindSelection, e.title(), "correct or remove "+x.key, "%s: %s means nothing that %s means", x.key, x.text, e.title())
			}
		}
		r.unusedColumns(e)
	}
	for _, t := range r.transforms {
		for _, p := range t.tables {
			if !p.matched {
				r.problem(KindTransform, t.key, "correct it, or leave it out", "%s: %s means no table that is migrated", t.key, p.text)
			}
		}
	}
}

// instead says what an exact name means that is no table.
func (r *resolver) instead(e *entry) string {
	name, exact := e.pattern.exact()
	if kind := r.others[name]; exact && kind != "" {
		return ": it is a " + kind + ", which comes with its schema"
	}
	return ""
}

// ask shows the entries of schemas, and all excludes, everything that is there, so that each knows whether it means any.
func (r *resolver) ask() {
	names := slices.Collect(maps.Keys(r.others))
	for _, table := range r.tables {
		names = append(names, table.Name)
	}
	for _, e := range r.entries.all {
		for name := range r.schemas {
			if _, ok := e.pattern.name.match(name); ok && e.Schema != "" {
				e.matched = true
			}
		}
		if len(e.exclude) == 0 {
			continue
		}
		for _, name := range names {
			if e.means(name) {
				e.ask(name)
			}
		}
	}
}

// means reports whether a relation fits the pattern of an entry, or is in a schema that does.
func (e *entry) means(name migration.TableName) bool {
	if e.Schema != "" {
		_, ok := e.pattern.name.match(name.Schema)
		return ok
	}
	_, ok := e.pattern.match(name)
	return ok
}

func (e *entry) ask(name migration.TableName) {
	for _, x := range e.exclude {
		if _, ok := x.match(name); ok {
			x.matched = true
		}
	}
}

func (r *resolver) unusedColumns(e *entry) {
	if e.Columns.IsZero() || !e.holds {
		return
	}
	var unknown []string
	for _, p := range append(slices.Clone(e.columns.include), e.columns.exclude...) {
		if !p.matched {
			unknown = append(unknown, p.text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.columns.rename)) {
		if !e.columns.renamed[name] {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		r.problem(KindColumns, e.title(), "correct the columns of "+e.key, "%s: no table that it means has a column %s",
			e.title(), strings.Join(unknown, " or "))
	}
}
