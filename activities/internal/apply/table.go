package apply

import (
	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// table is one table of the source with what is known of its counterpart.
type table struct {
	id      migration.ID
	planned ledger.Table
	snapshots
	relid  uint32              // of its ledger row: of a partition made later, the row of its root
	target migration.TableName // where its rows are written
	advice string              // for a partition made later: the statement that makes it on the target

	converges bool // for ever: the target differs on purpose, or nobody knows its rows
	fromNow   bool // nobody knows its rows
	marked    bool // the copy kept rows of the target and marked their keys
	meets     bool // other tables are written into the same one, and may have had a row's key before
	blind     bool // it meets others, and texts of the keys do not tell which are the same

	// bound is the description that the columns below follow; another one is checked before its changes are applied.
	bound *wal.Relation
	left  []bool // columns of the relation that carry no data of ours; nil when all do
	layout
	statements map[shape]*prepared

	decided    regime // for transaction number decidedFor
	copying    bool   // that transaction is among those that the copy has brought, at least in part
	decidedFor int64

	// A table whose folded statements failed is written in source order for a while.
	ordered      bool
	orderedUntil int64 // number of a batch
	fallbacks    int
}

// layout is how the values of a change become a row of the target.
type layout struct {
	given   []given  // what an image holds
	columns []column // what is written
	key     []int    // positions of the source's key in given: by it changes fold
	norms   []keyForm
	found   []int // positions of the target's key in columns: by it rows are found
	sorted  []int // found, by name
	serial  bool  // no text tells whether two keys are equal: nothing folds
	loose   bool  // equal keys may have different texts, so that the text is written too
	fixed   []int // identity columns GENERATED ALWAYS beside the key: they can be inserted, never set
	alwaysK bool  // an identity column GENERATED ALWAYS in the key
	whole   bool  // partitioned on the target: rows are in its leaves

	computed  bool   // some column is an expression, or rows are filtered
	condition string // SQL that is true for rows that are wanted; "" = all
	needs     []int  // positions in given of what the condition reads
}

// given is one value of an image: a column of the source that is written, is in the key, or is read by an expression.
type given struct {
	name  string // on the source
	seen  string // the type, with its collation, as which expressions see it; "" = none reads it
	plain column // the column that it is written to; without a name, its type on the source
	sent  uint32 // oid of the type as which it goes to the target, oidText for all but whole numbers
}

// column is one column of the target.
type column struct {
	name   string
	num    int    // attnum
	cast   string // the type without its modifier: a cast to it cuts nothing off
	typ    string // with its modifier
	base   uint32 // oid of the built-in type below, or of the user's type
	enum   bool
	always bool   // identity GENERATED ALWAYS
	fuzzy  bool   // its collation takes different texts for equal
	equal  string // operator of the key's index, qualified

	from  int    // the value that it takes, if set is empty
	set   string // SQL that computes it
	reads []int  // positions in given of what set reads
	stamp bool   // set asks for the time
}

// row has a value for each of given.
type row []wal.Value

func (t *table) keyless() bool { return len(t.key) == 0 }

// insertOnly reports whether updates and deletes are not in the stream. Then a unique value that an insertion takes may
// have been freed unseen; its row is left out, because the cutover finds such a table and copies it again.
func (t *table) insertOnly() bool { return t.planned.Published == catalog.PublishedInsert }

// inOrder reports whether nothing of this table folds.
func (t *table) inOrder() bool { return t.keyless() || t.serial || t.ordered }

// wants reports whether an operation is applied. What the copy may have brought belongs to it, and the copy brings all:
// otherwise it would depend on the order of chunks what of the time of the copy the target shows.
func (t *table) wants(op wal.Op) bool {
	return len(t.planned.Operations) == 0 || t.copying || t.planned.Operations.Has(operations[op])
}

var operations = map[wal.Op]migration.Operation{
	wal.Insert: migration.OperationInsert, wal.Update: migration.OperationUpdate,
	wal.Delete: migration.OperationDelete, wal.Truncate: migration.OperationTruncate,
}

// partial reports whether an image lacks values that were not sent.
func partial(image row) bool {
	for i := range image {
		if image[i].Kind == wal.Unchanged {
			return true
		}
	}
	return false
}

// fill takes values that were not sent from an older image of the same row. It returns a new image where it changes
// any: the given ones belong to the batch.
func fill(image, older row) row {
	filled := image
	for i := range image {
		if image[i].Kind != wal.Unchanged || older[i].Kind == wal.Unchanged {
			continue
		}
		if &filled[0] == &image[0] {
			filled = append(row(nil), image...)
		}
		filled[i] = older[i]
	}
	return filled
}
