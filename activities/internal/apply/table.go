package apply

import (
	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// table is one table of the source with what is known of its counterpart.
type table struct {
	planned ledger.Table
	snapshots
	relid  uint32              // of its ledger row: of a partition made later, the row of its root
	target migration.TableName // where its rows are written
	advice string              // for a partition made later: the statement that makes it on the target

	// bound is the description that the columns below follow; another one is checked before its changes are applied.
	bound   *wal.Relation
	left    []bool // columns of the relation that carry no data of ours; nil when all do
	columns []column
	layout
	statements map[shape]*prepared

	decided    regime // for transaction number decidedFor
	decidedFor int64

	// A table whose folded statements failed is written in source order for a while.
	ordered      bool
	orderedUntil int64 // number of a batch
	fallbacks    int
}

// layout is what the columns make together.
type layout struct {
	key     []int // positions of the key in columns
	norms   []keyForm
	serial  bool  // no text tells whether two keys are equal: nothing folds
	loose   bool  // equal keys may have different texts, so that the text is written too
	fixed   []int // identity columns GENERATED ALWAYS beside the key: they can be inserted, never set
	alwaysK bool  // an identity column GENERATED ALWAYS in the key
	whole   bool  // partitioned on the target: rows are in its leaves
}

// column is one column of the target in the order of the relation.
type column struct {
	name   string
	cast   string // the type without its modifier: a cast to it cuts nothing off
	typ    string // with its modifier
	base   uint32 // oid of the built-in type below, or of the user's type
	enum   bool
	always bool   // identity GENERATED ALWAYS
	fuzzy  bool   // its collation takes different texts for equal
	equal  string // operator of the key's index, qualified
}

// row has a value for each column.
type row []wal.Value

func (t *table) keyless() bool { return len(t.key) == 0 }

// insertOnly reports whether updates and deletes are not in the stream. Then a unique value that an insertion takes may
// have been freed unseen; its row is left out, because the cutover finds such a table and copies it again.
func (t *table) insertOnly() bool { return t.planned.Published == catalog.PublishedInsert }

// inOrder reports whether nothing of this table folds.
func (t *table) inOrder() bool { return t.keyless() || t.serial || t.ordered }

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
