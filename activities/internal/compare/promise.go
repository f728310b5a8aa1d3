package compare

import (
	"slices"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Promise is what a definition promises about a table's rows on the target.
type Promise int

// The promises.
const (
	// Equal: the target holds the source's rows, as far as they are migrated, and no others of theirs.
	Equal Promise = iota
	// Subset: the target holds the source's rows, and may hold others.
	Subset
	// Nothing: what the source says of a row may rightly not be what the target says.
	Nothing
)

// PromiseOf is what can be compared of a table, with the reason where that is nothing.
func PromiseOf(t mapping.Table) (promise Promise, reason string) {
	whole := t.Operations.Has(migration.OperationDelete) && t.Operations.Has(migration.OperationTruncate)
	_, apart := discriminator(t)
	switch {
	case !t.Operations.Has(migration.OperationInsert) || !t.Operations.Has(migration.OperationUpdate):
		return Nothing, "the definition leaves out insert or update"
	case whole && !t.Keep && !t.Settled && (!t.Merged || apart):
		return Equal, ""
	case len(t.TargetKey) == 0 && t.Published(t.WithoutKey) != catalog.PublishedAll:
		return Nothing, "updates of rows without a key are not in the stream, and the table cannot be copied again"
	}
	return Subset, ""
}

// discriminator finds the columns that tell this source's rows of a merge from the others', which is so only where every
// one of them is a constant.
func discriminator(t mapping.Table) ([]mapping.Column, bool) {
	if !t.Merged || len(t.TargetKey) <= len(t.Key) {
		return nil, false
	}
	var columns []mapping.Column
	for _, name := range t.TargetKey[len(t.Key):] {
		column, found := into(t, name)
		if !found || column.Set == "" || len(column.Reads) > 0 {
			return nil, false
		}
		columns = append(columns, column)
	}
	return columns, true
}

func into(t mapping.Table, name string) (mapping.Column, bool) {
	for _, column := range t.Into {
		if column.Name == name {
			return column, true
		}
	}
	return mapping.Column{}, false
}

// asItIs reports whether the target's table is the source's, made by us under its own name and with all its columns.
func asItIs(t mapping.Table) bool {
	if !t.Plain() || t.Existing || t.Target != t.Name {
		return false
	}
	columns := t.DataColumns()
	if len(columns) != len(t.Into) {
		return false
	}
	for i, column := range columns {
		if t.Into[i].Name != column.Name || t.Into[i].Source != column.Name {
			return false
		}
	}
	renamed := slices.ContainsFunc(t.Computed, func(c mapping.Column) bool { return c.Name != c.Source })
	return !renamed && len(columns)+len(t.Computed) == len(t.Columns)
}

// computed are the generated columns that must agree: not where a transformation changes what they may be computed from.
func computed(t mapping.Table) []mapping.Column {
	if slices.ContainsFunc(t.Into, func(c mapping.Column) bool { return c.Set != "" }) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(t.Computed), func(c mapping.Column) bool {
		column, _ := t.Column(c.Source)
		return inexact(column)
	})
}

// inexact values are computed from, and to, floating-point ones: their last digit depends on the machine's mathematical
// library.
func inexact(column catalog.Column) bool {
	return column.Generated && (column.BaseOID == float4OID || column.BaseOID == float8OID)
}
