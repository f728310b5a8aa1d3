package mapping

import (
	"slices"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Table is a selected table: what it is on the source, and what becomes of it on the target.
type Table struct {
	catalog.Table // the source's, with all columns

	Target migration.TableName `json:"target"`
	// Into are the columns that are written on the target: the source's in their order, then added ones by name.
	Into []Column `json:"into"`
	// Computed are the generated columns that come along with the schema, which the target's server writes by itself.
	Computed []Column `json:"computed,omitempty"`
	// TargetKey are the columns of the target by which a row is found: those of Key under their names there, in their
	// order, then the ones that tell the sources of a merge apart. Empty where Key is.
	TargetKey []string `json:"targetKey,omitempty"`

	// Where and DropIf are SQL over the source's row, "" where nothing is left out. A row is migrated when
	// (Where) is true and (DropIf) is not true.
	Where  string `json:"where,omitempty"`
	DropIf string `json:"dropIf,omitempty"`
	// Operations are applied in incremental; the copy brings all rows.
	Operations migration.Operations `json:"operations,omitempty"`
	WithoutKey migration.WithoutKey `json:"withoutKey"`
	// NeedsOldRows: changes can be applied only if the stream brings old rows in full (REPLICA IDENTITY FULL), because an
	// expression, or a row that enters the filter, needs a value that may be stored out of line and then is not sent. It does
	// not matter what the identity is now: whoever has to change it compares.
	NeedsOldRows bool `json:"needsOldRows,omitempty"`

	// Existing: the target's table was there before and is not ours to empty or drop.
	Existing bool `json:"existing,omitempty"`
	// Keep: rows whose key the target has already are not written by the copy (conflict: ignore).
	Keep bool `json:"keep,omitempty"`
	// Merged: other selected tables are written into the same table of the target.
	Merged bool `json:"merged,omitempty"`
	// Settled: it is a partition whose rows go through a table above it, which may have those of others too.
	Settled bool `json:"settled,omitempty"`
}

// Column is a column of the target and where its value comes from.
type Column struct {
	Name   string `json:"name"`             // on the target
	Source string `json:"source,omitempty"` // on the source; "" = a transformation adds it
	Set    string `json:"set,omitempty"`    // SQL over the source's row instead of the column's value
	// Reads are the source's columns that Set reads.
	Reads []string `json:"reads,omitempty"`
	// Stamp: Set asks for the time, so that the two servers never agree on the value and it is not compared.
	Stamp bool `json:"stamp,omitempty"`
}

// Whole is a table that is migrated as it is, under its own name.
func Whole(table catalog.Table) Table {
	t := Table{Table: table, Target: table.Name, TargetKey: slices.Clone(table.Key), WithoutKey: migration.InsertOnly}
	for _, column := range table.Columns {
		if as := (Column{Name: column.Name, Source: column.Name}); column.Generated {
			t.Computed = append(t.Computed, as)
		} else {
			t.Into = append(t.Into, as)
		}
	}
	return t
}

// Plain reports whether the target's rows are the source's: then every change must hit exactly the row it is about. Where
// they differ on purpose changes converge, and comparing asks for what was promised. Other names, and columns left out,
// change nothing about that.
func (t Table) Plain() bool {
	return t.Where == "" && t.DropIf == "" && !t.Keep && !t.Merged && t.Operations.All() &&
		!slices.ContainsFunc(t.Into, func(c Column) bool { return c.Set != "" })
}

// Filtered reports whether rows are left out.
func (t Table) Filtered() bool { return t.Where != "" || t.DropIf != "" }

// RowCondition is SQL over the source's row that is true for rows that are migrated, or "" when all are.
func (t Table) RowCondition() string {
	switch {
	case t.Where != "" && t.DropIf != "":
		return "(" + t.Where + "\n) and (" + t.DropIf + "\n) is not true"
	case t.Where != "":
		return "(" + t.Where + "\n)"
	case t.DropIf != "":
		return "(" + t.DropIf + "\n) is not true"
	}
	return ""
}

// Column finds a column of the source.
func (t Table) Column(name string) (catalog.Column, bool) {
	for _, column := range t.Columns {
		if column.Name == name {
			return column, true
		}
	}
	return catalog.Column{}, false
}

// TargetColumns are the names of the columns that are written, in order.
func (t Table) TargetColumns() []string {
	names := make([]string, len(t.Into))
	for i, column := range t.Into {
		names[i] = column.Name
	}
	return names
}
