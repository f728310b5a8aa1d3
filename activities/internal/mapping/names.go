package mapping

import (
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Names maps names of the source to names of the target. The zero value leaves every name as it is.
type Names struct {
	schemas   map[string]string
	relations map[migration.TableName]migration.TableName // those that do not simply follow their schema
	changed   bool
}

// Same reports whether every name stays as it is.
func (n Names) Same() bool { return !n.changed }

// Schema is the name of a schema on the target. What is no schema of a user on the source keeps its name.
func (n Names) Schema(name string) string {
	if to, ok := n.schemas[name]; ok {
		return to
	}
	return name
}

// Relation is the name of a table, view, sequence, type or index on the target. A table has the name that the definition
// gives it; tables, views, materialized views and foreign tables follow names.case; an index goes with its table, and a
// sequence with the column that owns it; everything else, and what the source does not have, only follows its schema.
func (n Names) Relation(name migration.TableName) migration.TableName {
	if to, ok := n.relations[name]; ok {
		return to
	}
	return migration.TableName{Schema: n.Schema(name.Schema), Name: name.Name}
}

// add records a name.
func (n *Names) add(from, to migration.TableName) {
	if to == (migration.TableName{Schema: n.Schema(from.Schema), Name: from.Name}) {
		return
	}
	if n.relations == nil {
		n.relations = map[migration.TableName]migration.TableName{}
	}
	n.relations[from] = to
	n.changed = true
}

// addSchema records the name of a schema.
func (n *Names) addSchema(from, to string) {
	if from == to {
		return
	}
	if n.schemas == nil {
		n.schemas = map[string]string{}
	}
	n.schemas[from] = to
	n.changed = true
}

// fold writes the letters A to Z, or a to z, as a policy wants them. Other letters stay, as in names that PostgreSQL folds.
func fold(name string, policy migration.Case) string {
	switch policy {
	case migration.CaseLower:
		return strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				return r + ('a' - 'A')
			}
			return r
		}, name)
	case migration.CaseUpper:
		return strings.Map(func(r rune) rune {
			if 'a' <= r && r <= 'z' {
				return r - ('a' - 'A')
			}
			return r
		}, name)
	case migration.CaseSource, migration.CaseDefault:
	}
	return name
}

// objectCase is how schemas, and what is in them, are written.
func objectCase(policy migration.Case) migration.Case {
	if policy == migration.CaseDefault {
		return migration.CaseLower
	}
	return policy
}
