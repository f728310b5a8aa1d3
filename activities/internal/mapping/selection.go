package mapping

import (
	"slices"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Selection is what a definition chooses of a source, with the names it gets.
type Selection struct {
	// Tables are selected, in the order of catalog.Tables; roots of partition trees are among them.
	Tables []Table
	Names  Names
	// Everything: the definition leaves nothing out.
	Everything bool

	choices *resolver // nil = no definition stands behind it
	byOID   map[uint32]int
	byName  map[migration.TableName]int
}

// Problem is something about a definition that cannot work with these servers.
type Problem struct {
	Kind   Kind
	Object string // table, column or entry of the definition
	Text   string
	Fix    string
	Alert  bool // a person may accept it; else nothing can begin
}

// Table finds a selected table by its oid on the source.
func (s Selection) Table(oid uint32) (Table, bool) {
	if i, ok := s.byOID[oid]; ok && i < len(s.Tables) && s.Tables[i].OID == oid {
		return s.Tables[i], true
	}
	for _, t := range s.Tables { // whoever has the selection has left tables out
		if t.OID == oid {
			return t, true
		}
	}
	return Table{}, false
}

// named finds a selected table by its name on the source.
func (s Selection) named(name migration.TableName) (Table, bool) {
	if i, ok := s.byName[name]; ok && i < len(s.Tables) && s.Tables[i].Name == name {
		return s.Tables[i], true
	}
	i := slices.IndexFunc(s.Tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		return Table{}, false
	}
	return s.Tables[i], true
}

// WholeSchema reports whether a schema of the source is meant as a whole: with its views, functions and triggers.
func (s Selection) WholeSchema(name string) bool {
	return s.choices == nil || s.choices.schema(name).whole
}

// Excluded reports whether the entry that means a relation of a whole schema leaves it out.
func (s Selection) Excluded(relation migration.TableName) bool {
	if s.choices == nil {
		return false
	}
	if c, ok := s.choices.choices[relation]; ok {
		return c.excluded
	}
	e := s.choices.schema(relation.Schema).entry
	return e != nil && e.excludes(relation)
}

// Sequence reports whether a sequence is migrated, and its name on the target. One that a column owns goes with the column,
// and lives where its table does; any goes with a selected table whose defaults take values from it; others go with their
// schema.
func (s Selection) Sequence(sequence catalog.Sequence) (migration.TableName, bool) {
	name := migration.TableName{Schema: s.Names.Schema(sequence.Name.Schema), Name: sequence.Name.Name}
	if s.choices == nil {
		return name, true
	}
	owned := s.choices.byName[sequence.Owner] != nil // and not by a foreign table, which comes with its schema
	if owned {
		owner, selected := s.named(sequence.Owner)
		if selected && slices.ContainsFunc(owner.Into, func(c Column) bool { return c.Source == sequence.Column }) {
			name.Schema = owner.Target.Schema
			return name, true
		}
	}
	for _, user := range sequence.UsedBy {
		if _, selected := s.named(user); selected && user != sequence.Owner {
			return name, true
		}
	}
	return name, !owned && s.WholeSchema(sequence.Name.Schema) && !s.Excluded(sequence.Name)
}

// treeOf is the topmost selected table above a partition; of another table, itself.
func (s Selection) treeOf(t Table) migration.TableName {
	if s.choices == nil {
		return t.Name
	}
	return s.choices.top(&t.Table).Name
}

// disjoint reports whether somebody vouches for the keys of a table.
func (s Selection) disjoint(name migration.TableName) bool {
	return s.choices != nil && slices.ContainsFunc(s.choices.choices[name].transforms, func(t *transform) bool { return t.Disjoint })
}
