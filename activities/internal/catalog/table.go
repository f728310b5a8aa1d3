package catalog

import (
	"github.com/pgdts/pgdts/workflows/migration"
)

// Column is one column that carries data. Dropped columns are not listed.
type Column struct {
	Name     string `json:"name"`
	Num      int16  `json:"num"`  // attnum
	Type     string `json:"type"` // format_type, schema-qualified unless in pg_catalog
	TypeOID  uint32 `json:"typeOid"`
	BaseOID  uint32 `json:"baseOid"`  // of a domain: the type below; of an array: its own oid
	TypeKind string `json:"typeKind"` // typtype: b c d e r m p
	NotNull  bool   `json:"notNull,omitempty"`
	// HasDefault: a row that does not name the column gets a value: by default, identity, generation, or its domain's default.
	HasDefault bool   `json:"hasDefault,omitempty"`
	Identity   string `json:"identity,omitempty"`  // "a" always, "d" by default
	Generated  bool   `json:"generated,omitempty"` // stored or virtual: left out of every column list
	Storage    string `json:"storage"`             // attstorage; not "p" = a value may be out of line (unchanged TOAST)
	Collation  string `json:"collation,omitempty"` // quoted name when not the type's default
	Collated   bool   `json:"collated,omitempty"`  // the type takes a collation at all
}

// Table is a table of the source as its catalog describes it. Identity of a row across servers is Key.
type Table struct {
	OID  uint32              `json:"oid"`
	Name migration.TableName `json:"name"`
	Kind string              `json:"kind"` // relkind: r table, p partitioned

	Columns []Column `json:"columns"`
	// Key is the identity of a row: the columns of the primary key, or of the REPLICA IDENTITY index, or (with the
	// default identity nothing to go by) empty. Unique, immediate, not partial, not null, btree.
	Key []string `json:"key,omitempty"`
	// KeyIndex is the name of the index behind Key; KeyConstraint is set when a constraint owns it.
	KeyIndex      string `json:"keyIndex,omitempty"`
	KeyConstraint bool   `json:"keyConstraint,omitempty"`
	// KeyTrusted: range scans over the key's index find every row. False when a collation's version has changed since
	// the index was built.
	KeyTrusted bool `json:"keyTrusted,omitempty"`
	// KeyOrder has the operators of the key's index, one per column, where one of them is not pg_catalog's; else nil.
	KeyOrder []Order `json:"keyOrder,omitempty"`
	// Identity is relreplident: d default, n nothing, f full, i index.
	Identity string `json:"identity"`
	// Found: an update or delete in the stream tells which row it means. With the default identity that takes an immediate
	// primary key, with i its index (which may have been dropped since); f always does, n never.
	Found bool `json:"found,omitempty"`
	// Unlogged tables are not decoded.
	Unlogged bool `json:"unlogged,omitempty"`

	Partition bool                `json:"partition,omitempty"`
	Parent    migration.TableName `json:"parent,omitzero"` // of a partition or an inheritance child
	Root      migration.TableName `json:"root,omitzero"`   // topmost partitioned table

	// Extension owns the table and created its first rows; Condition ("WHERE …", or empty) selects the rows that are the
	// user's, as pg_dump does.
	Extension string `json:"extension,omitempty"`
	Condition string `json:"condition,omitempty"`

	RowSecurity bool  `json:"rowSecurity,omitempty"`
	Bytes       int64 `json:"bytes"` // heap and TOAST
	Rows        int64 `json:"rows"`  // reltuples, an estimate; -1 becomes 0

	SecondaryUnique []string `json:"secondaryUnique,omitempty"` // unique and exclusion indexes other than KeyIndex
}

// Order are the comparison operators of a key column, as OPERATOR(schema.name): with search_path = pg_catalog a plain
// sign would find another type's operator for citext and its like, and so another order than the index has.
type Order struct {
	Less         string `json:"less"`
	Equal        string `json:"equal"`
	GreaterEqual string `json:"greaterEqual"`
	Greater      string `json:"greater"`
}

// DataColumns are the columns that are copied and applied: all but generated ones.
func (t Table) DataColumns() []Column {
	columns := make([]Column, 0, len(t.Columns))
	for _, column := range t.Columns {
		if !column.Generated {
			columns = append(columns, column)
		}
	}
	return columns
}

// ColumnNames are the names of columns.
func ColumnNames(columns []Column) []string {
	names := make([]string, len(columns))
	for i, column := range columns {
		names[i] = column.Name
	}
	return names
}
