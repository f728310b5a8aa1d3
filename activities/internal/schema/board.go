package schema

import (
	"slices"
	"sync"

	"github.com/pgdts/pgdts/activities/internal/ledger"
)

// board hands out objects to workers so that no two in hand lock the same table.
type board struct {
	mu     sync.Mutex
	change *sync.Cond
	todo   []ledger.Object
	busy   map[uint32]bool
	closed bool
}

func newBoard(todo []ledger.Object) *board {
	b := &board{todo: slices.Clone(todo), busy: map[uint32]bool{}}
	b.change = sync.NewCond(&b.mu)
	return b
}

// take waits for an object whose tables are free; false when there is nothing more to take.
func (b *board) take() (ledger.Object, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if b.closed || len(b.todo) == 0 {
			return ledger.Object{}, false
		}
		at := slices.IndexFunc(b.todo, func(o ledger.Object) bool {
			return !slices.ContainsFunc(o.Locks, func(table uint32) bool { return b.busy[table] })
		})
		if at >= 0 {
			taken := b.todo[at]
			b.todo = slices.Delete(b.todo, at, at+1)
			for _, table := range taken.Locks {
				b.busy[table] = true
			}
			return taken, true
		}
		b.change.Wait()
	}
}

func (b *board) release(o ledger.Object) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, table := range o.Locks {
		delete(b.busy, table)
	}
	b.change.Broadcast()
}

// close ends the work: nobody takes anything any more.
func (b *board) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.change.Broadcast()
}
