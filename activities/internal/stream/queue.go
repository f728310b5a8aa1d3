package stream

import (
	"context"
	"sync"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// queue stands between one reader and one consumer. What it holds is bounded in bytes.
type queue struct {
	budget int

	mu      sync.Mutex
	items   []wal.Transaction
	changes int
	bytes   int
	enough  Limits        // what the consumer waits for, so that it is not woken for less; 0 = anything
	idle    migration.LSN // nothing that commits before it is missing from what was pushed; 0 when it was handed out
	asked   bool          // the source waits to hear that idle is durable
	err     error

	filled  chan struct{} // something for the consumer
	drained chan struct{} // room for the reader
}

func newQueue(budget int) *queue {
	return &queue{budget: budget, filled: make(chan struct{}, 1), drained: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push waits for room. One item is taken into an empty queue whatever its size.
func (q *queue) push(ctx context.Context, tx wal.Transaction) error {
	for !q.offer(tx) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.drained:
		}
	}
	return nil
}

func (q *queue) offer(tx wal.Transaction) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) > 0 && q.bytes+tx.Bytes > q.budget {
		return false
	}
	q.items = append(q.items, tx)
	q.changes += len(tx.Changes)
	q.bytes += tx.Bytes
	q.idle, q.asked = 0, false
	if q.reached(q.enough) {
		signal(q.filled)
	}
	return true
}

// reached reports whether a batch would not grow if one waited. A full queue does not grow either.
func (q *queue) reached(limits Limits) bool {
	last := &q.items[len(q.items)-1]
	return q.changes >= limits.Changes || q.bytes >= min(limits.Bytes, q.budget/2) || !last.First || !last.Last
}

// gather reports whether it is worth waiting for more than there is: whether something is there, and the source has not
// said that this is all. If so, the next signal comes when a batch is full, or the source has said so.
func (q *queue) gather(limits Limits) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 || q.idle != 0 || q.err != nil || q.reached(limits) {
		q.enough = Limits{}
		return false
	}
	q.enough = limits
	return true
}

// pass notes a position that the source has passed with no transaction open.
func (q *queue) pass(position migration.LSN, asked bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.idle, q.asked = position, q.asked || asked
	signal(q.filled)
}

// fail ends the queue; what is in it can still be taken.
func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	signal(q.filled)
}

// take removes what one batch may hold: whole transactions within the limits, or the part of one. An empty queue gives
// an idle position, then the error.
func (q *queue) take(limits Limits) (Batch, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enough = Limits{}
	if len(q.items) == 0 {
		batch := Batch{Idle: q.idle, Asked: q.asked}
		q.idle, q.asked = 0, false
		if batch.Idle == 0 {
			return batch, q.err
		}
		return batch, nil
	}
	n := q.fit(limits)
	batch := Batch{Transactions: q.items[:n:n]}
	q.items = q.items[n:]
	for _, tx := range batch.Transactions {
		q.changes -= len(tx.Changes)
		q.bytes -= tx.Bytes
	}
	signal(q.drained)
	return batch, nil
}

// fit is at least one.
func (q *queue) fit(limits Limits) int {
	changes, bytes := 0, 0
	for n, tx := range q.items {
		part := !tx.First || !tx.Last
		changes += len(tx.Changes)
		bytes += tx.Bytes
		if n > 0 && (part || changes > limits.Changes || bytes > limits.Bytes) {
			return n
		}
		if part {
			return 1
		}
	}
	return len(q.items)
}

func (q *queue) pending() (oldest *wal.Transaction) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return nil
	}
	first := q.items[0]
	return &first
}
