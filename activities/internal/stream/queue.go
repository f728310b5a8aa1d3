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

	mu    sync.Mutex
	items []wal.Transaction
	bytes int
	idle  migration.LSN // nothing that commits before it is missing from what was pushed; 0 when it was handed out
	asked bool          // the source waits to hear that idle is durable
	err   error

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
	q.bytes += tx.Bytes
	q.idle, q.asked = 0, false
	signal(q.filled)
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
