package mapping

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/syntax"
	"github.com/pgdts/pgdts/workflows/migration"
)

// transform is one of the definition's transformations, read.
type transform struct {
	migration.Transform
	key    string
	tables []*exclusion
}

func (r *resolver) readTransforms() {
	for i, from := range r.spec.Transform {
		t := &transform{Transform: from, key: fmt.Sprintf("transform[%d]", i)}
		for _, text := range from.Tables {
			p, err := parsePattern(text)
			if err == nil && p.schema == nil {
				err = fmt.Errorf("want schema.table")
			}
			if err != nil {
				r.problem(KindTransform, t.key, "", "%s: %q: %s", t.key, text, err)
				continue
			}
			t.tables = append(t.tables, &exclusion{pattern: p, key: t.key})
		}
		r.transforms = append(r.transforms, t)
	}
}

// transformsOf finds the transformations of a table, in their order: those that name it, and those of the tree that it is
// a partition of.
func (r *resolver) transformsOf(table *catalog.Table, c *choice, follows bool) []*transform {
	var found []*transform
	for _, t := range r.transforms {
		mine := follows && slices.Contains(c.parent.transforms, t)
		for _, p := range t.tables {
			if _, ok := p.match(table.Name); ok {
				p.matched, mine = true, true
			}
		}
		if mine {
			found = append(found, t)
		}
	}
	return found
}

// parsed is an expression that was read, or what is wrong about it.
type parsed struct {
	syntax.Use
	err error
}

// expression reads a text once. The parser takes a while to begin, so that nobody must ask it for nothing.
func (r *resolver) expression(text string) parsed {
	if p, ok := r.expressions[text]; ok {
		return p
	}
	var p parsed
	p.Use, p.err = syntax.Expression(text)
	r.expressions[text] = p
	return p
}

// transform fills what is computed and which rows are left out, and says what cannot be read.
func (r *resolver) transform(t *Table, c *choice) {
	set := map[string]string{}
	var dropIf []string
	for _, from := range c.transforms {
		maps.Copy(set, from.Set)
		if from.DropIf != "" && !slices.Contains(dropIf, from.DropIf) {
			dropIf = append(dropIf, from.DropIf)
		}
	}
	if t.DropIf = strings.Join(dropIf, "\n) or ("); len(dropIf) > 1 {
		t.DropIf = "(" + t.DropIf + "\n)"
	}
	if t.Where != "" {
		r.condition(t, KindFilter, "where", t.Where)
	}
	for _, text := range dropIf {
		r.condition(t, KindTransform, "dropIf", text)
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		r.set(t, name, set[name])
	}
}

// condition checks a text that chooses rows. Rows that come and go with the time could not be followed.
func (r *resolver) condition(t *Table, kind Kind, key, text string) {
	use, ok := r.read(t, kind, key, text)
	if ok && use.Stamp {
		r.once(t, text, kind, "compare with a constant", "%s of %s asks for the time, which is another one for every row and on every server: %s",
			key, t.Name, text)
	}
}

// read checks that an expression reads columns that the stream brings.
func (r *resolver) read(t *Table, kind Kind, key, text string) (parsed, bool) {
	use := r.expression(text)
	if use.err != nil {
		r.once(t, key+text, kind, "correct it in the definition", "%s of %s: %s, in: %s", key, t.Name, use.err, text)
		return use, false
	}
	for _, name := range use.Columns {
		column, ok := t.Column(name)
		switch {
		case !ok:
			r.once(t, key+text+name, kind, "use a column of the source's table", "%s of %s reads column %s, which the table does not have: %s",
				key, t.Name, name, text)
		case column.Generated:
			r.once(t, key+text+name, kind, "use what it is computed from", "%s of %s reads column %s, which is generated and not in the stream: %s",
				key, t.Name, name, text)
		}
	}
	return use, true
}

// set gives a column a value: one of the source by its name there, or by its new one; else one that only the target has.
func (r *resolver) set(t *Table, name, text string) {
	key := "set " + name
	use, _ := r.read(t, KindTransform, key, text)
	at := slices.IndexFunc(t.Into, func(c Column) bool { return c.Source == name })
	if at < 0 {
		at = slices.IndexFunc(t.Into, func(c Column) bool { return c.Name == name })
	}
	column, known := t.Column(name)
	switch {
	case at >= 0:
	case known && column.Generated:
		r.once(t, key, KindTransform, "set a column that it is computed from", "%s of %s: the column is generated", key, t.Name)
		return
	case known && r.spec.Has(migration.TypeSchema):
		r.once(t, key, KindTransform, "take the column in, or do not set it", "%s of %s: the column is left out", key, t.Name)
		return
	case r.spec.Has(migration.TypeSchema) && r.spec.Conflict != migration.ConflictIgnore:
		r.once(t, key, KindTransform, "add it to the source, or make the table on the target and take schema out of types",
			"%s of %s: neither the source nor the table that is made after it has such a column", key, t.Name)
		return
	default:
		at = len(t.Into)
		t.Into = append(t.Into, Column{Name: name})
		r.mustBeName(KindTransform, t.Name.String()+"."+name, name)
	}
	t.Into[at].Set, t.Into[at].Reads, t.Into[at].Stamp = text, use.Columns, use.Stamp
}
