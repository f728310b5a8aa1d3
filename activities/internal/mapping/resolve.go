package mapping

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Resolve applies a definition to the tables of a source. Problems come without what Read asks the source beside them:
// foreign keys, and names of what is not a table.
//
// An entry for tables beats one for schemas; of two of a kind the one with more characters that stand for themselves, then
// the later one. What an entry for tables does not say comes from the schema's, then from the top of the definition. The
// entry that holds for a relation also decides whether it is left out.
//
// A partition follows its parent: it is selected with it, and has its conditions, operations and transformations, unless an
// entry that says more than the parent's, or an exclude, means the partition itself. Columns are always the parent's.
func Resolve(spec migration.Spec, tables []catalog.Table) (Selection, []Problem) {
	return newResolver(spec, tables).resolve()
}

type resolver struct {
	spec    migration.Spec
	tables  []catalog.Table
	byName  map[migration.TableName]*catalog.Table
	entries entries

	schemas     map[string]*schemaChoice
	choices     map[migration.TableName]*choice
	transforms  []*transform
	expressions map[string]parsed

	others    map[migration.TableName]string // relations that are no tables, and what they are
	selection Selection
	problems  []Problem
	known     map[Problem]bool
	said      map[string]bool
}

// schemaChoice is what a definition says about a schema.
type schemaChoice struct {
	entry  *entry // nil = what everythingElse says
	whole  bool
	target string
}

// choice is what a definition says about a table.
type choice struct {
	selected bool
	excluded bool // named to be left out, not only not meant
	own      *entry
	captures []string
	entry    *entry // that says which columns and rows are meant: its own or, of a partition, the parent's
	parent   *choice

	where      string
	operations migration.Operations
	withoutKey migration.WithoutKey
	transforms []*transform
	columns    []columnChoice          // as the table has them
	given      map[string]columnChoice // the same by name, for tables below
}

func newResolver(spec migration.Spec, tables []catalog.Table) *resolver {
	r := &resolver{
		spec: spec, tables: tables, byName: make(map[migration.TableName]*catalog.Table, len(tables)),
		schemas: map[string]*schemaChoice{}, choices: make(map[migration.TableName]*choice, len(tables)),
		expressions: map[string]parsed{}, known: map[Problem]bool{}, said: map[string]bool{},
	}
	for i := range tables {
		r.byName[tables[i].Name] = &tables[i]
	}
	r.readEntries()
	r.readTransforms()
	return r
}

func (r *resolver) resolve() (Selection, []Problem) {
	for _, table := range r.tables {
		r.addSchema(table.Name.Schema)
	}
	for i := range r.tables {
		table := &r.tables[i]
		c := r.choose(table)
		target := r.target(table, c)
		r.selection.Names.add(table.Name, target)
		if c.selected {
			if c.entry != nil {
				c.entry.holds = true
			}
			r.selection.Tables = append(r.selection.Tables, r.table(table, c, target))
		}
	}
	r.finish()
	r.merge()
	r.unused()
	return r.selection, r.problems
}

// finish makes the selection answer questions.
func (r *resolver) finish() {
	s := &r.selection
	s.choices = r
	s.byOID = make(map[uint32]int, len(s.Tables))
	s.byName = make(map[migration.TableName]int, len(s.Tables))
	for i, table := range s.Tables {
		s.byOID[table.OID], s.byName[table.Name] = i, i
	}
	s.Everything = r.includesElse()
	for _, e := range r.entries.all {
		s.Everything = s.Everything && len(e.exclude) == 0
	}
}

func (r *resolver) includesElse() bool {
	return r.spec.EverythingElse == migration.IncludeElse || r.spec.EverythingElse == "" && len(r.spec.Objects) == 0
}

// addSchema decides about a schema of the source.
func (r *resolver) addSchema(name string) {
	if r.schemas[name] != nil {
		return
	}
	c := r.schema(name)
	r.schemas[name] = c
	r.selection.Names.addSchema(name, c.target)
	if c.target != name {
		r.mustBeSchema("schema "+name, c.target)
	}
}

// schema is what the definition says about a schema, whether the source has it or not.
func (r *resolver) schema(name string) *schemaChoice {
	if c := r.schemas[name]; c != nil {
		return c
	}
	c := &schemaChoice{target: fold(name, objectCase(r.spec.Names.Case))}
	found, captures := r.entries.forSchema(name)
	c.entry, c.whole = found, found != nil || r.includesElse()
	if found != nil && found.rename != nil {
		c.target = found.rename.expand(captures)[0]
	}
	return c
}

// choose decides about a table once, about parents of partitions first.
func (r *resolver) choose(table *catalog.Table) *choice {
	if c := r.choices[table.Name]; c != nil {
		return c
	}
	c := &choice{}
	r.choices[table.Name] = c
	if parent := r.byName[table.Parent]; table.Partition && parent != nil {
		c.parent = r.choose(parent)
	}
	schema := r.schema(table.Name.Schema)
	c.own, c.captures = r.entries.forTable(table.Name)
	speaks := c.own != nil && (c.parent == nil || c.parent.entry == nil || c.parent.entry != c.own && c.own.weight.beats(c.parent.entry.weight))
	switch {
	case c.own != nil && c.own.excludes(table.Name):
		c.excluded = true
	case speaks:
		c.selected = true
		r.bothWays(table.Name, c.own, schema.entry)
	case schema.entry != nil && schema.entry.excludes(table.Name):
		c.excluded = true
	case c.parent != nil && (c.parent.selected || c.parent.excluded):
		c.selected, c.excluded = c.parent.selected, c.parent.excluded
	default:
		c.selected = schema.whole
	}
	r.inherit(c, table, schema, speaks)
	return c
}

// inherit fills what is said about rows and changes, from the nearest who says it.
func (r *resolver) inherit(c *choice, table *catalog.Table, schema *schemaChoice, speaks bool) {
	follows := c.parent != nil && c.parent.selected
	if follows {
		c.entry, c.where = c.parent.entry, c.parent.where
		c.operations, c.withoutKey = c.parent.operations, c.parent.withoutKey
	} else {
		c.operations, c.withoutKey = r.spec.Operations, r.spec.WithoutKey
		if schema.entry != nil {
			override(&c.operations, schema.entry.Operations)
			if schema.entry.WithoutKey != "" {
				c.withoutKey = schema.entry.WithoutKey
			}
		}
	}
	if speaks {
		c.entry = c.own
		override(&c.operations, c.own.Operations)
		if c.own.Where != "" {
			c.where = c.own.Where
		}
		if c.own.WithoutKey != "" {
			c.withoutKey = c.own.WithoutKey
		}
	}
	if c.operations.All() {
		c.operations = nil
	}
	if c.withoutKey == "" {
		c.withoutKey = migration.InsertOnly
	}
	if c.selected {
		c.transforms = r.transformsOf(table, c, follows)
	}
}

func override(operations *migration.Operations, by migration.Operations) {
	if len(by) > 0 {
		*operations = by
	}
}

// bothWays: who names a table to leave it out and names it again may have meant either.
func (r *resolver) bothWays(name migration.TableName, own, schema *entry) {
	if schema == nil {
		return
	}
	if _, exact := own.pattern.exact(); !exact {
		return
	}
	for _, x := range schema.exclude {
		if _, ok := x.match(name); !ok {
			continue
		}
		if !x.name.wild() {
			r.alert(KindSelection, name.String(), fmt.Sprintf("remove %s, or %s", own.key, x.key),
				"table %s is left out by %s and selected by %s: the entry of the table holds, it is migrated", name, x.key, own.key)
		}
	}
}

// target is the name of a table, or of a relation that names.case means like one. The first rows of an extension's table
// come with the extension, under the extension's name for it.
func (r *resolver) target(table *catalog.Table, c *choice) migration.TableName {
	to := migration.TableName{Schema: r.schema(table.Name.Schema).target, Name: fold(table.Name.Name, objectCase(r.spec.Names.Case))}
	if table.Extension != "" {
		to.Name = table.Name.Name
	}
	if c.own == nil || c.own.rename == nil || !c.selected {
		return to
	}
	named := c.own.rename.expand(c.captures)
	if table.Extension != "" {
		r.problem(KindNames, table.Name.String(), "leave the table out of "+c.own.title(),
			"table %s belongs to extension %s, which gives it its name", table.Name, table.Extension)
		return to
	}
	if to.Name = named[len(named)-1]; len(named) == 2 {
		to.Schema = named[0]
		r.mustBeSchema(table.Name.String(), to.Schema)
	}
	r.mustBeName(KindNames, table.Name.String(), to.Name)
	return to
}

// nameMax is how many bytes of a name PostgreSQL keeps.
const nameMax = 63

func (r *resolver) mustBeName(kind Kind, object, name string) {
	switch {
	case name == "":
		r.problem(kind, object, "change the rename", "%s would have an empty name", object)
	case len(name) > nameMax:
		r.problem(kind, object, "choose a shorter name",
			"%s would be called %s, which is %d bytes long: PostgreSQL keeps %d", object, name, len(name), nameMax)
	}
}

func (r *resolver) mustBeSchema(object, name string) {
	r.mustBeName(KindNames, object, name)
	if name == "dts_sync" || name == "information_schema" || strings.HasPrefix(name, "pg_") {
		r.problem(KindNames, object, "choose another schema", "%s would get to %s, which belongs to the system or to pgdts", object, name)
	}
}

// table makes a selected table.
func (r *resolver) table(source *catalog.Table, c *choice, target migration.TableName) Table {
	t := Table{
		Table: *source, Target: target, Where: c.where, Operations: c.operations, WithoutKey: c.withoutKey,
	}
	r.columns(&t, c)
	r.transform(&t, c)
	r.keyColumns(&t)
	r.oldRows(&t)
	return t
}

// keyColumns finds the key under its names on the target. What tells a row apart must be known from the row's key alone.
func (r *resolver) keyColumns(t *Table) {
	for _, key := range t.Key {
		at := slices.IndexFunc(t.Into, func(c Column) bool { return c.Source == key })
		if at < 0 {
			t.TargetKey = nil
			if r.decidesColumn(t, key) {
				r.problem(KindColumns, t.Name.String(), "take the column into the columns of the table again",
					"column %s of %s cannot be left out: it is part of the key", key, t.Name)
			}
			return
		}
		column := t.Into[at]
		t.TargetKey = append(t.TargetKey, column.Name)
		outside := func(read string) bool { return !slices.Contains(t.Key, read) }
		if column.Set != "" && (column.Stamp || slices.ContainsFunc(column.Reads, outside)) {
			r.once(t, column.Name, KindTransform, "let it read columns of the key only: "+strings.Join(t.Key, ", "),
				"set %s of %s: a column of the key may be computed from columns of the key only, because a deleted row tells no others",
				column.Name, t.Name)
		}
	}
}

func (r *resolver) problem(kind Kind, object, fix, format string, args ...any) {
	r.add(Problem{Kind: kind, Object: object, Text: fmt.Sprintf(format, args...), Fix: fix})
}

func (r *resolver) alert(kind Kind, object, fix, format string, args ...any) {
	r.add(Problem{Kind: kind, Object: object, Text: fmt.Sprintf(format, args...), Fix: fix, Alert: true})
}

// once says the same thing about a tree of partitions once.
func (r *resolver) once(t *Table, about string, kind Kind, fix, format string, args ...any) {
	key := fmt.Sprintf("%s\x00%s\x00%s\x00%s", r.top(&t.Table).Name, about, kind, format)
	if !r.said[key] {
		r.said[key] = true
		r.problem(kind, t.Name.String(), fix, format, args...)
	}
}

func (r *resolver) add(p Problem) {
	if !r.known[p] {
		r.known[p] = true
		r.problems = append(r.problems, p)
	}
}

// top is the topmost selected table of a partition's tree; of another table, itself.
func (r *resolver) top(table *catalog.Table) *catalog.Table {
	for table.Partition {
		parent := r.byName[table.Parent]
		if parent == nil || !r.choose(parent).selected {
			return table
		}
		table = parent
	}
	return table
}
