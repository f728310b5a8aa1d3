package wal

import (
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Transaction is one committed transaction of the source, or a part of a very large one, in stream order.
type Transaction struct {
	XID    uint32        // top-level xid, as the snapshots list it
	Commit migration.LSN // start of the commit record
	End    migration.LSN // end of the commit record: the position to resume from
	Time   time.Time     // commit time on the source's clock

	Changes []Change
	// First and Last tell the parts of a transaction that was cut because of its size; a whole one is both.
	First, Last bool
	Bytes       int // memory held by Changes, for budgets
}

// Op is the kind of a change.
type Op byte

// The letters of pgoutput.
const (
	Insert   Op = 'I'
	Update   Op = 'U'
	Delete   Op = 'D'
	Truncate Op = 'T'
	Message  Op = 'M' // a transactional logical message of ours: the marker or the heartbeat
)

// Change is one change of one row, or a truncation, or a message.
type Change struct {
	Op       Op
	Relation *Relation
	// Old is the old key (only key columns set) or, with OldFull, the whole old row. nil when the server sent none.
	Old     []Value
	OldFull bool
	New     []Value

	Truncated []*Relation // of a Truncate: all tables of the statement
	Prefix    string      // of a Message
	Content   []byte
}

// Value is a column's value in text form. The zero Value is NULL.
type Value struct {
	Kind ValueKind
	Data []byte
}

// ValueKind tells NULL, text, and a TOASTed value that was not changed and therefore not sent.
type ValueKind byte

// The letters of pgoutput, except for Null, whose letter n gives way to the zero value.
const (
	Null      ValueKind = 0
	Text      ValueKind = 't'
	Unchanged ValueKind = 'u'
)

// Relation is the description of a table that precedes its changes. It is valid until the next one with the same ID.
type Relation struct {
	ID       uint32 // oid on the source
	Name     migration.TableName
	Identity byte // d n f i
	Columns  []RelationColumn
}

// RelationColumn is a column as published.
type RelationColumn struct {
	Name    string
	Key     bool
	TypeOID uint32
	TypeMod int32
}
