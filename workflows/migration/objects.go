package migration

import (
	"fmt"
	"slices"
	"strings"
)

// Object is one entry of `objects`: what it selects, and what becomes of it. Patterns know * (any characters) and ?
// (one); a name that holds a dot or a sign of these is put in double quotes.
type Object struct {
	// Exactly one of the two is set.
	Schema string `json:"schema,omitempty"` // pattern of schema names
	Table  string `json:"table,omitempty"`  // pattern of schema.table

	// Exclude are patterns of what the entry does not mean: relations of the schema, or tables.
	Exclude []string `json:"exclude,omitempty"`
	// Rename is the name on the target, with $1, $2 … for what the wildcards stood for: of the schema, or of the table, as
	// table or schema.table. Empty = as it is. A name that is given here is taken as it is written, whatever names.case says.
	Rename string `json:"rename,omitempty"`

	Columns Columns `json:"columns,omitzero"`
	// Where is a condition over the source's row; rows for which it is true are migrated. Empty = all.
	Where string `json:"where,omitempty"`
	// Operations are what is applied in incremental; empty = as the definition says for the whole database.
	Operations Operations `json:"operations,omitempty"`
	// WithoutKey overrides the definition's for these tables; empty = as the definition says.
	WithoutKey WithoutKey `json:"withoutKey,omitempty"`
}

// Columns chooses and renames columns of a table. Include and Exclude are patterns, Rename is by exact name.
type Columns struct {
	Include []string          `json:"include,omitempty"` // empty = all
	Exclude []string          `json:"exclude,omitempty"`
	Rename  map[string]string `json:"rename,omitempty"`
}

// IsZero reports whether all columns are migrated under their names.
func (c Columns) IsZero() bool {
	return len(c.Include) == 0 && len(c.Exclude) == 0 && len(c.Rename) == 0
}

// Operation is a kind of change that the stream brings.
type Operation string

// The operations.
const (
	OperationInsert   Operation = "insert"
	OperationUpdate   Operation = "update"
	OperationDelete   Operation = "delete"
	OperationTruncate Operation = "truncate"
)

// Operations is a set of operations; empty = all of them.
type Operations []Operation

// Has reports whether an operation is in the set.
func (o Operations) Has(op Operation) bool { return len(o) == 0 || slices.Contains(o, op) }

// All reports whether nothing is left out.
func (o Operations) All() bool {
	return o.Has(OperationInsert) && o.Has(OperationUpdate) && o.Has(OperationDelete) && o.Has(OperationTruncate)
}

// Transform changes rows on their way (ETL): SQL over the source's columns.
type Transform struct {
	Tables []string          `json:"tables"` // patterns of schema.table
	Set    map[string]string `json:"set,omitempty"`
	// DropIf is a condition; rows for which it is true are not migrated. NULL keeps the row.
	DropIf string `json:"dropIf,omitempty"`
	// Disjoint: whoever merges several tables into one vouches that their keys never meet.
	Disjoint bool `json:"disjoint,omitempty"`
}

// EverythingElse says what becomes of what no entry of `objects` means.
type EverythingElse string

// Include is the default without `objects`, exclude with them.
const (
	IncludeElse EverythingElse = "include"
	ExcludeElse EverythingElse = "exclude"
)

// Case is how names of schemas, tables and columns are written on the target.
type Case string

// CaseDefault is the service's: schemas and tables in lower case, columns as they are. Only the letters A to Z change, as
// PostgreSQL does with names that are not quoted.
const (
	CaseSource  Case = "source"
	CaseLower   Case = "lower"
	CaseUpper   Case = "upper"
	CaseDefault Case = "default"
)

// Naming holds names.case.
type Naming struct {
	Case Case `json:"case"`
}

// Conflict says what tables of the same name on the target mean.
type Conflict string

// With report they fail the precheck. With ignore their rows are kept by the copy and overwritten by the stream.
const (
	ConflictReport Conflict = "report"
	ConflictIgnore Conflict = "ignore"
)

// IdentityPolicy says whether the migration may set REPLICA IDENTITY FULL where a filter or a transformation needs old
// rows in full. What it sets it records, and restores at the end.
type IdentityPolicy string

// The default is as-is.
const (
	IdentityAsIs    IdentityPolicy = "as-is"
	IdentitySetFull IdentityPolicy = "set-full"
)

// Incremental says where changes begin that no copy of this migration comes before.
type Incremental struct {
	// Slot is a logical slot of pgoutput that a person has made together with the snapshot he has restored; empty = from now.
	Slot string `json:"slot,omitempty"`
}

// Has reports whether a kind of work is wanted.
func (s Spec) Has(t Type) bool { return slices.Contains(s.Types, t) }

// FromNow reports whether changes begin at a moment that the target's rows know nothing of: then they converge, and
// nothing can be counted or compared.
func (s Spec) FromNow() bool {
	return s.Has(TypeIncremental) && !s.Has(TypeFull) && s.Incremental.Slot == ""
}

func (s Spec) validateObjects() error {
	for _, t := range s.Types {
		if !slices.Contains([]Type{TypeSchema, TypeFull, TypeIncremental}, t) {
			return keyErrorf("types", "%q: want schema, full or incremental", t)
		}
	}
	for i, o := range s.Objects {
		if err := o.validate(fmt.Sprintf("objects[%d]", i)); err != nil {
			return err
		}
	}
	for i, t := range s.Transform {
		key := fmt.Sprintf("transform[%d]", i)
		switch {
		case len(t.Tables) == 0:
			return keyErrorf(key, "names no tables")
		case len(t.Set) == 0 && t.DropIf == "" && !t.Disjoint:
			return keyErrorf(key, "changes nothing: want set, dropIf or disjoint")
		}
		if err := validatePatterns(key+".tables", t.Tables); err != nil {
			return err
		}
	}
	if s.EverythingElse == ExcludeElse && len(s.Objects) == 0 {
		return keyErrorf("everythingElse", "%q: without objects nothing is left to migrate", s.EverythingElse)
	}
	if s.Incremental.Slot != "" && (!s.Has(TypeIncremental) || s.Has(TypeFull) || s.Has(TypeSchema)) {
		return keyErrorf("incremental.slot", "is for types: [incremental], where changes begin where the slot does")
	}
	if s.Cutover.Mode == "auto" && !s.Has(TypeIncremental) {
		return keyErrorf("cutover.mode", "%q: only a migration of type incremental is cut over", s.Cutover.Mode)
	}
	return validateOperations("operations", s.Operations)
}

func (o Object) validate(key string) error {
	switch {
	case (o.Schema == "") == (o.Table == ""):
		return keyErrorf(key, "names nothing to migrate: want one of schema and table")
	case o.Schema != "" && !o.Columns.IsZero():
		return keyErrorf(key+".columns", "is for entries that name a table")
	case o.Schema != "" && o.Where != "":
		return keyErrorf(key+".where", "is for entries that name a table")
	case o.WithoutKey != "" && !slices.Contains([]WithoutKey{InsertOnly, FullIdentity, Refuse}, o.WithoutKey):
		return keyErrorf(key+".withoutKey", "%q: want insert-only or full or refuse", o.WithoutKey)
	}
	if o.Table != "" {
		if err := validatePatterns(key+".table", []string{o.Table}); err != nil {
			return err
		}
	}
	return validateOperations(key+".operations", o.Operations)
}

func validatePatterns(key string, patterns []string) error {
	for _, pattern := range patterns {
		if !strings.Contains(pattern, ".") {
			return keyErrorf(key, "%q: want schema.table", pattern)
		}
	}
	return nil
}

func validateOperations(key string, operations Operations) error {
	for _, op := range operations {
		if !slices.Contains([]Operation{OperationInsert, OperationUpdate, OperationDelete, OperationTruncate}, op) {
			return keyErrorf(key, "%q: want insert, update, delete or truncate", op)
		}
	}
	return nil
}
