package apply

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/wal"
)

// kind is what a statement does to its rows. The values are in the order in which a table's statements run.
type kind byte

const (
	remove kind = iota // delete by key
	change             // set columns other than the key
	move               // set the key, and columns
	insert
	put // insert, or set what is there
)

func (k kind) String() string {
	return [...]string{"delete", "update", "key change", "insert", "upsert"}[k]
}

// action is a set of rows of one table that one statement can treat.
type action struct {
	table  *table
	kind   kind
	absent string // values that are not known, as a bit set; "" = none
	only   bool   // of a converging table: nothing is inserted, whatever is missing
	rows   []rowChange
	expect int64 // rows that it must hit; uncounted where any number is right
}

// rowChange is one row of an action: at finds it, image is what it becomes.
type rowChange struct{ at, image row }

// uncounted is the expectation of statements that converge.
const uncounted = -1

// state is what the changes of one key have come to.
type state byte

const (
	inserted state = iota // was not there
	updated               // was there
	deleted               // was there
	replaced              // was there, was deleted, is there
	nothing               // was not there, is not there
	moved                 // was there under another key; nothing more can be folded into it
	refused
)

// folding is the state after an insertion, an update, a deletion. Where the source cannot have had such a change, it is
// refused: the state is written first, and the change meets what is there.
var folding = [...][3]state{
	inserted: {refused, inserted, nothing},
	updated:  {refused, updated, deleted},
	deleted:  {replaced, refused, refused},
	replaced: {refused, replaced, deleted},
	nothing:  {inserted, refused, refused},
	moved:    {refused, refused, refused},
}

func next(s state, op wal.Op) state { return folding[s][place(op)] }

func first(op wal.Op) state { return [...]state{inserted, updated, deleted}[place(op)] }

// place is the operation's column above. Only changes of rows fold.
func place(op wal.Op) int {
	switch op {
	case wal.Insert:
		return 0
	case wal.Update:
		return 1
	case wal.Delete:
		return 2
	case wal.Truncate, wal.Message:
	}
	panic("not a change of a row")
}

// fold gathers the changes of one table, one entry per key.
type fold struct {
	table   *table
	index   map[string]int
	entries []entry
	scratch []byte
	groups  []action
	listed  bool // in the walk's order
}

type entry struct {
	state state
	band  bool // any of its changes was in the band
	only  bool // none of its changes may insert
	rowChange
}

func newFold(t *table) *fold { return &fold{table: t, index: map[string]int{}} }

// add takes a change in, or reports that what was gathered must be written first. An empty fold takes everything except
// a key change in the band with values that were not sent, which is not for folds.
func (f *fold) add(e event) bool {
	if f.table.inOrder() {
		return f.queue(e)
	}
	from := f.find(e.at)
	if !e.moved {
		return f.merge(from, e)
	}
	if string(f.scratch) == f.newKey(e.image) { // equal keys, different texts: the text is set like any column
		return f.merge(from, e)
	}
	to := f.find(e.image)
	if e.band && !e.inPlace() {
		return f.split(from, to, e)
	}
	if from >= 0 || to >= 0 {
		return false
	}
	f.append(e.at, entry{state: moved, band: e.band, only: e.only, rowChange: rowChange{e.at, e.image}})
	f.index[f.newKey(e.image)] = len(f.entries) - 1
	return true
}

// inPlace reports whether a key change that converges takes the row along: there is nothing else that it may become, or
// nobody else knows what was not sent.
func (e *event) inPlace() bool { return e.only || e.settled && e.partial }

// find looks an entry up by the key of an image, and leaves the key in scratch.
func (f *fold) find(image row) int {
	f.scratch = f.table.appendKey(f.scratch[:0], image)
	if i, ok := f.index[string(f.scratch)]; ok {
		return i
	}
	return -1
}

func (f *fold) newKey(image row) string {
	return string(f.table.appendKey(nil, image))
}

func (f *fold) append(key row, e entry) {
	f.scratch = f.table.appendKey(f.scratch[:0], key)
	f.index[string(f.scratch)] = len(f.entries)
	f.entries = append(f.entries, e)
}

// merge folds a change into entry i, or makes an entry when i is none.
func (f *fold) merge(i int, e event) bool {
	if i < 0 {
		f.append(e.at, entry{state: first(e.op), band: e.band, only: e.only, rowChange: rowChange{e.at, e.image}})
		return true
	}
	old := &f.entries[i]
	state := next(old.state, e.op)
	if state == refused {
		return false
	}
	if e.op == wal.Update && old.image != nil {
		e.image = fill(e.image, old.image)
	}
	old.state, old.band, old.only, old.image = state, old.band || e.band, old.only && e.only, e.image
	return true
}

// split is a key change in the band: the old key is deleted, the new one written in full.
func (f *fold) split(from, to int, e event) bool {
	if from >= 0 && next(f.entries[from].state, wal.Delete) == refused ||
		to >= 0 && next(f.entries[to].state, wal.Insert) == refused {
		return false
	}
	return f.merge(from, event{op: wal.Delete, band: true, at: e.at}) &&
		f.merge(to, event{op: wal.Insert, band: true, at: e.image, image: e.image})
}

// queue is for tables where nothing folds: one change at a time, except that insertions in a row go together.
func (f *fold) queue(e event) bool {
	last := len(f.entries) - 1
	if last >= 0 && (f.entries[last].state != inserted || e.op != wal.Insert || e.band || f.entries[last].band) {
		return false
	}
	change := rowChange{e.at, e.image}
	switch {
	case e.moved && e.band && !e.inPlace():
		f.entries = append(f.entries, entry{state: deleted, band: true, rowChange: rowChange{at: e.at}},
			entry{state: inserted, band: true, rowChange: rowChange{e.image, e.image}})
	case e.moved:
		f.entries = append(f.entries, entry{state: moved, band: e.band, only: e.only, rowChange: change})
	case f.table.keyless() && e.op == wal.Update && !e.only && (len(f.table.fixed) > 0 || f.table.converges): // which cannot be set, or may enter
		f.entries = append(f.entries, entry{state: deleted, rowChange: rowChange{at: e.at}},
			entry{state: inserted, rowChange: rowChange{e.image, e.image}})
	default:
		f.entries = append(f.entries, entry{state: first(e.op), band: e.band, only: e.only, rowChange: change})
	}
	return true
}

// flush hands out what was gathered, in the order delete, update, key change, insert, upsert, and empties the fold. The
// keys differ, so that any order gives the same rows; this one lets most unique values go before they are taken.
func (f *fold) flush(ctx context.Context, to executor) error {
	for i := range f.entries {
		f.group(&f.entries[i])
	}
	defer f.reset()
	for k := remove; k <= put; k++ {
		for i := range f.groups {
			if f.groups[i].kind != k {
				continue
			}
			f.sort(f.groups[i])
			if err := to.do(ctx, f.groups[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// sort puts rows that are looked for into the order of their keys, as far as texts tell it: neighbours in the index, and
// often in the table, are then written while their pages are at hand. Rows that are moved or inserted stay in the order
// of the source, and so do those of tables where nothing folds.
func (f *fold) sort(a action) {
	if a.kind > change || f.table.inOrder() {
		return
	}
	slices.SortFunc(a.rows, func(x, y rowChange) int {
		for _, column := range f.table.key {
			one, other := x.at[column].Data, y.at[column].Data
			// Shorter first: numbers without sign come in their order.
			if c := cmp.Or(cmp.Compare(len(one), len(other)), bytes.Compare(one, other)); c != 0 {
				return c
			}
		}
		return 0
	})
}

// keptEntries is how much room a fold keeps for the next batch: many tables may each have had a large one.
const keptEntries = 4096

func (f *fold) reset() {
	if cap(f.entries) > keptEntries {
		f.entries, f.index = nil, map[string]int{}
	}
	clear(f.index)
	clear(f.entries)
	f.entries = f.entries[:0]
	clear(f.groups)
	f.groups = f.groups[:0]
}

func (f *fold) group(e *entry) {
	kind, each := f.table.write(e)
	mask := ""
	if e.image != nil && kind != remove {
		mask = absent(e.image)
	}
	for i := range f.groups {
		g := &f.groups[i]
		if g.kind == kind && g.absent == mask && g.only == e.only && g.each() == each {
			g.rows = append(g.rows, e.rowChange)
			g.expect += max(each, 0)
			return
		}
	}
	f.groups = append(f.groups, action{table: f.table, kind: kind, absent: mask, only: e.only, rows: []rowChange{e.rowChange}, expect: each})
}

// each is how many rows one row of the action hits: 1, 0, or uncounted.
func (a action) each() int64 { return min(a.expect, 1) }

// write says how an entry is written, and how many rows that must hit.
func (t *table) write(e *entry) (kind, int64) {
	if e.band {
		return t.converge(e)
	}
	each := int64(1)
	if t.converges || e.state == inserted && t.insertOnly() {
		each = uncounted
	}
	switch e.state {
	case inserted:
		return insert, each
	case updated, replaced: // a replaced row is updated in full: deleting it could cascade
		return change, each
	case moved:
		return move, each
	case nothing:
		return remove, 0
	case deleted, refused: // no entry is in the state refused
	}
	return remove, each
}

// converge is for where no state before is certain: a deletion stays one even after an insertion, a full image is an
// upsert, and a partial one changes the row if it is there; if it is not, a later change of the band removes it. Where no
// later change would, the count tells that a row must be read again.
func (t *table) converge(e *entry) (kind, int64) {
	lacking := e.image != nil && partial(e.image)
	each := int64(uncounted)
	if lacking && (t.marked || t.converges && e.state == moved && !e.only || t.fromNow && !e.only) {
		each = 1
	}
	switch {
	case e.state == deleted || e.state == nothing:
		return remove, uncounted
	case e.state == moved:
		return move, each
	case e.state == updated && (lacking || e.only):
		return change, each
	}
	return put, uncounted
}

// absent is a bit set of the values that an image lacks, or "".
func absent(image row) string {
	var set []byte
	for i := range image {
		if image[i].Kind != wal.Unchanged {
			continue
		}
		if set == nil {
			set = make([]byte, (len(image)+7)/8)
		}
		set[i/8] |= 1 << (i % 8)
	}
	return string(set)
}

func isAbsent(set string, column int) bool {
	return set != "" && set[column/8]&(1<<(column%8)) != 0
}
