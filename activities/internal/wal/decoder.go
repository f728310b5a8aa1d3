package wal

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/pgdts/pgdts/workflows/migration"
)

// MessagePrefix is the prefix of our logical messages; all others are the application's and are dropped.
const MessagePrefix = "pgdts"

// MarkerTable is the table whose rows stand in for logical messages on sources before PostgreSQL 14. Its second column,
// v, is what the message would have carried.
var MarkerTable = migration.TableName{Schema: "dts_sync", Name: "marker"}

const markerColumn = "v"

// Decoder turns the messages of one START_REPLICATION into transactions. Its zero value is not usable. It is for one
// goroutine, and one connection: a new connection sends the descriptions of tables again.
type Decoder struct {
	partBytes int
	relations map[uint32]*Relation
	open      *Transaction
	bytes     []byte
	values    []Value
}

// NewDecoder cuts transactions that hold more than partBytes of memory into parts.
func NewDecoder(partBytes int) *Decoder {
	return &Decoder{partBytes: partBytes, relations: map[uint32]*Relation{}}
}

// Open reports whether a transaction has begun that has not ended. Positions that the server tells meanwhile lie behind
// rows that are not complete yet.
func (d *Decoder) Open() bool { return d.open != nil }

// Decode takes one message, and returns the transaction that it ends, or the part that it fills, or nil. The message is
// not kept. After an error the decoder must not be used again.
func (d *Decoder) Decode(message []byte) (*Transaction, error) {
	if len(message) == 0 {
		return nil, errors.New("decode message: empty")
	}
	done, err := d.dispatch(message[0], &reader{rest: message[1:]})
	if err != nil {
		return nil, fmt.Errorf("decode message %q: %w", message[0], err)
	}
	return done, nil
}

func (d *Decoder) dispatch(kind byte, r *reader) (*Transaction, error) {
	switch kind {
	case 'I', 'U', 'D':
		return d.row(Op(kind), r)
	case 'B':
		return nil, d.begin(r)
	case 'C':
		return d.commit(r)
	case 'R':
		return nil, d.relation(r)
	case 'T':
		return d.truncate(r)
	case 'M':
		return d.message(r)
	case 'Y', 'O': // names of types, and the origin of a replicated transaction: nothing depends on them
		return nil, nil
	}
	return nil, errors.New("not part of the protocol that was asked for")
}

func (d *Decoder) begin(r *reader) error {
	if d.open != nil {
		return fmt.Errorf("transaction %d has not ended", d.open.XID)
	}
	tx := &Transaction{First: true, Bytes: int(unsafe.Sizeof(Transaction{}))}
	tx.Commit = migration.LSN(r.uint64())
	tx.Time = r.time()
	tx.XID = r.uint32()
	d.open = tx
	return r.err
}

func (d *Decoder) commit(r *reader) (*Transaction, error) {
	tx := d.open
	if tx == nil {
		return nil, errOutside
	}
	r.byte() // flags, unused
	commit, end := migration.LSN(r.uint64()), migration.LSN(r.uint64())
	tx.Time = r.time()
	if r.err != nil {
		return nil, r.err
	}
	if commit != tx.Commit || end <= commit {
		return nil, fmt.Errorf("transaction %d announced its commit at %s, but has it at %s to %s", tx.XID, tx.Commit, commit, end)
	}
	tx.End, tx.Last = end, true
	d.open = nil
	return tx, nil
}

var errOutside = errors.New("outside of a transaction")

// row decodes a change of a row. The body is copied once, as it is, and the values point into the copy.
func (d *Decoder) row(op Op, r *reader) (*Transaction, error) {
	if d.open == nil {
		return nil, errOutside
	}
	relation, err := d.described(r.uint32())
	if err != nil {
		return nil, err
	}
	change := Change{Op: op, Relation: relation}
	size := len(r.rest)
	r.rest = d.keep(r.rest)
	kind := r.byte()
	if op != Insert && (kind == 'K' || kind == 'O') {
		change.OldFull = kind == 'O'
		change.Old = d.tuple(r, len(relation.Columns))
		if op == Update {
			kind = r.byte()
		}
	}
	if op != Delete && kind == 'N' {
		change.New = d.tuple(r, len(relation.Columns))
	}
	switch {
	case r.err != nil:
		return nil, r.err
	case len(r.rest) > 0, op == Delete && change.Old == nil, op != Delete && change.New == nil:
		return nil, errShape
	}
	if relation.Name == MarkerTable {
		return d.add(markerMessage(relation, change.New), size)
	}
	return d.add(change, size+(len(change.Old)+len(change.New))*int(unsafe.Sizeof(Value{})))
}

var errShape = errors.New("not the shape of such a message")

func (d *Decoder) described(id uint32) (*Relation, error) {
	relation := d.relations[id]
	if relation == nil {
		return nil, fmt.Errorf("table %d was not described", id)
	}
	return relation, nil
}

// tuple reads one row. The server sends all published columns, in the order of the description.
func (d *Decoder) tuple(r *reader, want int) []Value {
	if n := int(r.uint16()); r.err == nil && n != want {
		r.err = fmt.Errorf("%d values for %d columns", n, want)
	}
	if r.err != nil {
		return nil
	}
	values := d.slab(want)
	for i := range values {
		switch kind := r.byte(); kind {
		case 'n':
		case 'u':
			values[i].Kind = Unchanged
		case 't':
			values[i] = Value{Kind: Text, Data: r.bytes(int(r.uint32()))}
		default:
			r.fail(fmt.Errorf("value of kind %q", kind))
		}
		if r.err != nil {
			return nil
		}
	}
	return values
}

// markerMessage is the logical message that a row of the marker table stands for. Its removal says nothing.
func markerMessage(relation *Relation, row []Value) Change {
	change := Change{Op: Message, Prefix: MessagePrefix}
	for i, value := range row {
		if relation.Columns[i].Name == markerColumn {
			change.Content = value.Data
		}
	}
	return change
}

func (d *Decoder) truncate(r *reader) (*Transaction, error) {
	if d.open == nil {
		return nil, errOutside
	}
	n := int(r.uint32())
	r.byte() // CASCADE and RESTART IDENTITY: every table that it reached is listed
	if r.err != nil || n != len(r.rest)/4 {
		return nil, errors.Join(r.err, errShape)
	}
	change := Change{Op: Truncate, Truncated: make([]*Relation, 0, n)}
	for range n {
		relation, err := d.described(r.uint32())
		if err != nil {
			return nil, err
		}
		change.Truncated = append(change.Truncated, relation)
	}
	return d.add(change, 8*n)
}

func (d *Decoder) message(r *reader) (*Transaction, error) {
	transactional := r.byte() == 1
	r.uint64() // its own position
	prefix := r.text()
	content := r.bytes(int(r.uint32()))
	if r.err != nil || !transactional || prefix != MessagePrefix {
		return nil, r.err
	}
	if d.open == nil {
		return nil, errOutside
	}
	return d.add(Change{Op: Message, Prefix: MessagePrefix, Content: d.keep(content)}, len(content))
}

// changesUsual is what most transactions have at most.
const changesUsual = 4

// add hands out a part when the transaction has grown beyond it. End is not known then.
func (d *Decoder) add(change Change, size int) (*Transaction, error) {
	tx := d.open
	if tx.Changes == nil {
		tx.Changes = make([]Change, 0, changesUsual)
	}
	tx.Changes = append(tx.Changes, change)
	tx.Bytes += size + int(unsafe.Sizeof(Change{}))
	if tx.Bytes < d.partBytes {
		return nil, nil
	}
	next := *tx
	next.First, next.Changes, next.Bytes = false, nil, int(unsafe.Sizeof(Transaction{}))
	d.open = &next
	return tx, nil
}

func (d *Decoder) relation(r *reader) error {
	relation := &Relation{ID: r.uint32()}
	relation.Name.Schema = r.text()
	if relation.Name.Schema == "" {
		relation.Name.Schema = "pg_catalog" // the protocol's short form
	}
	relation.Name.Name = r.text()
	relation.Identity = r.byte()
	n := int(r.uint16())
	for i := 0; i < n && r.err == nil; i++ {
		column := RelationColumn{Key: r.byte()&1 == 1}
		column.Name = r.text()
		column.TypeOID = r.uint32()
		column.TypeMod = int32(r.uint32())
		relation.Columns = append(relation.Columns, column)
	}
	if r.err != nil {
		return r.err
	}
	if len(r.rest) > 0 {
		return errShape
	}
	d.relations[relation.ID] = relation
	return nil
}

const (
	slabBytes  = 64 << 10
	slabValues = 1 << 10
)

// keep copies into a slab, which lives as long as one of the transactions that have bytes in it.
func (d *Decoder) keep(data []byte) []byte {
	n := len(data)
	if n > slabBytes/4 {
		return append(make([]byte, 0, n), data...)
	}
	if n > cap(d.bytes)-len(d.bytes) {
		d.bytes = make([]byte, 0, slabBytes)
	}
	start := len(d.bytes)
	d.bytes = append(d.bytes, data...)
	return d.bytes[start : start+n : start+n]
}

func (d *Decoder) slab(n int) []Value {
	if n == 0 || n > slabValues/4 {
		return make([]Value, n)
	}
	if n > len(d.values) {
		d.values = make([]Value, slabValues)
	}
	values := d.values[:n:n]
	d.values = d.values[n:]
	return values
}
