package schema

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Columns that are renamed or left out need nobody who reads SQL. A table is made with the source's columns; what stands
// before the data is made upon it; then one object of kind COLUMNS changes the columns, and the server follows every
// reference. What comes later and names such a column is made between two renamings, back and forth, in its transaction.

// kindColumns is the object that gives a table the columns of the definition.
const kindColumns = "COLUMNS"

// columnChanges is what becomes of a table's columns.
type columnChanges struct {
	left    []string
	renamed []renaming
}

type renaming struct{ from, to string }

func (c columnChanges) changed() bool { return len(c.left)+len(c.renamed) > 0 }

// columnsOf compares a table's columns with those that the target gets.
func columnsOf(table mapping.Table) columnChanges {
	into := map[string]string{}
	for _, column := range slices.Concat(table.Into, table.Computed) {
		if column.Source != "" {
			into[column.Source] = column.Name
		}
	}
	var c columnChanges
	for _, column := range table.Columns {
		target, kept := into[column.Name]
		switch {
		case !kept:
			c.left = append(c.left, column.Name)
		case target != column.Name:
			c.renamed = append(c.renamed, renaming{column.Name, target})
		}
	}
	return c
}

// shape is what one COLUMNS object does to the table at the top of a tree, or to an inheriting table beyond that.
type shape struct {
	table   mapping.Table
	left    []string
	renamed []renaming // as statements in order
	again   bool       // a column may be gone with the parent's
}

func (s shape) sql(name migration.TableName) string {
	var lines []string
	exists := ""
	if s.again {
		exists = "if exists "
	}
	for _, column := range s.left {
		lines = append(lines, fmt.Sprintf("alter table %s drop column %s%s;", name.SQL(), exists, migration.Quote(column)))
	}
	return strings.Join(append(lines, renameColumns(name, s.renamed)...), "\n")
}

func renameColumns(name migration.TableName, renamed []renaming) []string {
	lines := make([]string, len(renamed))
	for i, r := range renamed {
		lines[i] = fmt.Sprintf("alter table %s rename column %s to %s;", name.SQL(), migration.Quote(r.from), migration.Quote(r.to))
	}
	return lines
}

// back is the way from the new names to the old ones.
func (s shape) back() []renaming {
	var back []renaming
	for _, r := range slices.Backward(s.renamed) {
		back = append(back, renaming{r.to, r.from})
	}
	return back
}

// inTurn orders renamings so that no name is taken when it is given; names that change places take a third one meanwhile.
func inTurn(renamed []renaming, columns map[string]bool) []renaming {
	var turns []renaming
	todo := slices.Clone(renamed)
	for n := 1; len(todo) > 0; {
		at := slices.IndexFunc(todo, func(r renaming) bool { return !columns[r.to] })
		next := todo[max(at, 0)]
		if at < 0 {
			between := fmt.Sprintf("dts_sync_%d", n)
			n++
			todo[0].from, next.to = between, between
		} else {
			todo = slices.Delete(todo, at, at+1)
		}
		turns = append(turns, next)
		delete(columns, next.from)
		columns[next.to] = true
	}
	return turns
}
