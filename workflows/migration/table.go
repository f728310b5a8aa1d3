package migration

import "strings"

// TableName names a table, or another relation, of a database.
type TableName struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

// String is the name for logs and messages: schema.name, unquoted.
func (n TableName) String() string { return n.Schema + "." + n.Name }

// SQL is the quoted name for statements.
func (n TableName) SQL() string { return Quote(n.Schema) + "." + Quote(n.Name) }

// Quote makes an identifier of any text.
func Quote(identifier string) string { return `"` + strings.ReplaceAll(identifier, `"`, `""`) + `"` }

// QuoteList quotes identifiers and joins them by commas.
func QuoteList(identifiers []string) string {
	quoted := make([]string, len(identifiers))
	for i, identifier := range identifiers {
		quoted[i] = Quote(identifier)
	}
	return strings.Join(quoted, ", ")
}

// Literal makes an SQL string constant of any text, for statements that take no parameters (COPY, DDL). It is right
// whatever standard_conforming_strings says.
func Literal(text string) string {
	if strings.ContainsRune(text, '\\') {
		return ` E'` + strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(text) + `'`
	}
	return `'` + strings.ReplaceAll(text, `'`, `''`) + `'`
}

// TableMode is how a table's rows are carried.
type TableMode string

// The mode is planned once, before the copy, and kept in the ledger.
const (
	// ModeKeyRange: chunks by key ranges, each in its own snapshot; changes found by key.
	ModeKeyRange TableMode = "keyrange"
	// ModeOneSnapshot: one unit under one snapshot; no band.
	ModeOneSnapshot TableMode = "onesnap"
	// ModeRoot: a partitioned root or another relation without rows of its own.
	ModeRoot TableMode = "root"
)

// Stage is how far a table is. Only forward, except that a table whose unit fails goes back to StagePlanned.
type Stage string

// In the order in which a table goes through them.
const (
	StagePlanned Stage = "planned" // chunks are known, none or some are done
	StageCopied  Stage = "copied"  // every chunk is done
	StageBand    Stage = "band"    // identity key and plain indexes are built; changes up to hi_lsn converge
	StageExact   Stage = "exact"   // the stream has passed hi_lsn; every change must fit exactly
)
