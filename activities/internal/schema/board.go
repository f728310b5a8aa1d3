package schema

import (
	"sync"

	"github.com/pgdts/pgdts/activities/internal/ledger"
)

// work is what one transaction makes: an object, or several that lock the same tables.
type work []ledger.Object

func (w work) locks() []uint32 { return w[0].Locks }

// board hands out work so that no two in hand lock the same table. What has to wait for a table waits in that table's
// queue, so that handing out does not look at all that is left.
type board struct {
	mu      sync.Mutex
	change  *sync.Cond
	ready   []work // not known to wait for anything, the largest first
	woken   []work // that had to wait: larger than what is ready, and taken before it
	waiting map[uint32][]work
	left    int // in all of them
	busy    map[uint32]bool
	closed  bool
}

func newBoard(todo []work) *board {
	b := &board{ready: todo, left: len(todo), waiting: map[uint32][]work{}, busy: map[uint32]bool{}}
	b.change = sync.NewCond(&b.mu)
	return b
}

// take waits for work whose tables are free; false when there is nothing more to take.
func (b *board) take() (work, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.closed && b.left > 0 {
		next, ok := b.first()
		if !ok {
			b.change.Wait()
			continue
		}
		if table, waits := b.blocked(next); waits {
			b.waiting[table] = append(b.waiting[table], next)
			b.wake(next.locks()) // it stood for those that wait for its other tables
			continue
		}
		for _, table := range next.locks() {
			b.busy[table] = true
		}
		b.left--
		return next, true
	}
	return nil, false
}

func (b *board) first() (work, bool) {
	from := &b.woken
	if len(*from) == 0 {
		from = &b.ready
	}
	if len(*from) == 0 {
		return nil, false
	}
	next := (*from)[0]
	*from = (*from)[1:]
	return next, true
}

func (b *board) blocked(w work) (uint32, bool) {
	for _, table := range w.locks() {
		if b.busy[table] {
			return table, true
		}
	}
	return 0, false
}

// wake lets the first that waits for each free table try again; the next one's turn comes when it is through.
func (b *board) wake(tables []uint32) {
	for _, table := range tables {
		queue := b.waiting[table]
		if b.busy[table] || len(queue) == 0 {
			continue
		}
		b.woken = append(b.woken, queue[0])
		b.waiting[table] = queue[1:]
		b.change.Signal()
	}
}

func (b *board) release(w work) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, table := range w.locks() {
		delete(b.busy, table)
	}
	b.wake(w.locks())
	b.change.Broadcast()
}

// close ends the work: nobody takes anything any more.
func (b *board) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.change.Broadcast()
}
