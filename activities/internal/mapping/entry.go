package mapping

import (
	"fmt"
	"slices"

	"github.com/pgdts/pgdts/workflows/migration"
)

// entry is one of the definition's objects, read.
type entry struct {
	migration.Object
	key     string // in the definition
	pattern pattern
	weight  weight
	exclude []*exclusion
	rename  *template
	columns columnPatterns
	matched bool // its pattern means something
	holds   bool // it decides about a selected table
}

// exclusion is a pattern of what an entry does not mean.
type exclusion struct {
	pattern
	key     string
	matched bool
}

// excludes reports whether an entry leaves a relation out that its pattern means.
func (e *entry) excludes(name migration.TableName) bool {
	return slices.ContainsFunc(e.exclude, func(x *exclusion) bool {
		_, ok := x.match(name)
		return ok
	})
}

func (e *entry) title() string {
	if e.Table != "" {
		return fmt.Sprintf("%s (table %s)", e.key, e.Table)
	}
	return fmt.Sprintf("%s (schema %s)", e.key, e.Schema)
}

// entries are the definition's objects. Those of tables are kept by what they say exactly, so that a table is not compared
// with each of a thousand.
type entries struct {
	schemas []*entry
	exact   map[migration.TableName]*entry // tables without a wildcard
	within  map[string][]*entry            // tables with one, of one schema
	wild    []*entry                       // tables of several schemas
	all     []*entry
}

func (r *resolver) readEntries() {
	r.entries.exact, r.entries.within = map[migration.TableName]*entry{}, map[string][]*entry{}
	for i, object := range r.spec.Objects {
		e := &entry{Object: object, key: fmt.Sprintf("objects[%d]", i)}
		if err := e.read(i); err != nil {
			r.problem(KindSelection, e.title(), "", "%s: %s", e.title(), err)
			continue
		}
		r.entries.all = append(r.entries.all, e)
		name, exact := e.pattern.exact()
		switch {
		case e.Schema != "":
			r.entries.schemas = append(r.entries.schemas, e)
		case e.pattern.schema.wild():
			r.entries.wild = append(r.entries.wild, e)
		case !exact:
			in := e.pattern.schema.exact
			r.entries.within[in] = append(r.entries.within[in], e)
		default:
			if other := r.entries.exact[name]; other != nil {
				other.matched = true
				r.alert(KindSelection, name.String(), "keep one of the two entries",
					"table %s has two entries, %s and %s: the later one holds", name, other.key, e.key)
			}
			r.entries.exact[name] = e
		}
	}
}

func (e *entry) read(place int) error {
	wildcards, err := e.readPattern()
	if err != nil {
		return err
	}
	e.weight = e.pattern.weight(place)
	for i, text := range e.Exclude {
		x := &exclusion{key: fmt.Sprintf("%s.exclude[%d]", e.key, i)}
		if x.pattern, err = parsePattern(text); err != nil {
			return fmt.Errorf("exclude %q: %w", text, err)
		}
		e.exclude = append(e.exclude, x)
	}
	if e.Rename != "" {
		to, err := parseTemplate(e.Rename, true, wildcards)
		if err == nil && e.Schema != "" && len(to.parts) > 1 {
			err = fmt.Errorf("a schema's name has one part: put a name that holds a dot in double quotes")
		}
		if err != nil {
			return fmt.Errorf("rename %q: %w", e.Rename, err)
		}
		e.rename = &to
	}
	return e.columns.read(e.Columns)
}

func (e *entry) readPattern() (wildcards int, err error) {
	if e.Schema != "" {
		e.pattern.text = e.Schema
		e.pattern.name, err = parseGlob(e.Schema)
		return e.pattern.name.stars + e.pattern.name.marks, err
	}
	e.pattern, err = parsePattern(e.Table)
	if err == nil && e.pattern.schema == nil {
		err = fmt.Errorf("want schema.table")
	}
	if err != nil {
		return 0, err
	}
	w := e.pattern.weight(0)
	return w.stars + w.marks, nil
}

// forTable finds the entry that says most about a table, and what its wildcards stand for.
func (s entries) forTable(name migration.TableName) (*entry, []string) {
	best, captures := s.exact[name], []string(nil)
	if best != nil {
		best.matched = true
	}
	for _, some := range [][]*entry{s.within[name.Schema], s.wild} {
		for _, e := range some {
			found, ok := e.pattern.match(name)
			if !ok {
				continue
			}
			e.matched = true
			if best == nil || e.weight.beats(best.weight) {
				best, captures = e, found
			}
		}
	}
	return best, captures
}

// forSchema finds the entry of a schema that says most about it.
func (s entries) forSchema(name string) (*entry, []string) {
	var best *entry
	var captures []string
	for _, e := range s.schemas {
		found, ok := e.pattern.name.match(name)
		if ok && (best == nil || e.weight.beats(best.weight)) {
			best, captures = e, found
		}
	}
	return best, captures
}
