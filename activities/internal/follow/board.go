package follow

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/activities/internal/stream"
	"github.com/pgdts/pgdts/workflows/migration"
)

// errNotRunning is for those who wait for a stream that is over.
var errNotRunning = errors.New("the stream is not running")

const noteStandbys = "it sends no change before its standbys have it (synchronized_standby_slots), and waits for one"

// board is what the running stream shows to everybody else. Whoever waits is woken by every change of it.
type board struct {
	mu      sync.Mutex
	changed chan struct{}

	stream   *stream.Session
	base     int64
	position migration.LSN
	tables   migration.TableCounts
	changes  int64
	slot     slot.Status
	wal      migration.WAL
	held     bool // back by the source, for its standbys
	markers  map[string]migration.LSN
	notes    []string // of the source's tables
	kept     []string // of the ledger, for as long as the migration lives
	waiting  int
	ended    bool
	err      error
}

func newBoard() *board {
	return &board{changed: make(chan struct{}), markers: map[string]migration.LSN{}}
}

// update changes the board under its lock and wakes those who wait.
func (b *board) update(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) opened(f *Follower) {
	b.update(func() {
		b.stream, b.base = f.stream, f.changes
		b.position, b.tables = f.applier.Position(), f.applier.Tables()
	})
}

func (b *board) moved(position migration.LSN, tables migration.TableCounts, changes int64) {
	b.update(func() { b.position, b.tables, b.changes = position, tables, changes })
}

func (b *board) retained(status slot.Status, wal migration.WAL) {
	b.update(func() {
		// With such standbys every change waits for a moment: what stands still between two looks is held back.
		b.held = status.WaitsForStandbys() && b.slot.WaitsForStandbys() && status.Confirmed == b.slot.Confirmed
		b.slot, b.wal = status, wal
	})
}

// remember shows what the ledger notes of a source that failed over: it matters for as long as the migration lives.
func (b *board) remember(notes []string) {
	b.update(func() {
		b.kept = nil
		for _, note := range notes {
			if strings.HasPrefix(note, slot.NoteFailover) {
				b.kept = append(b.kept, note)
			}
		}
	})
}

func (b *board) marked(marker string, end migration.LSN) {
	b.update(func() { b.markers[marker] = end })
}

func (b *board) end(err error) {
	if err == nil {
		err = errNotRunning
	}
	b.update(func() { b.ended, b.err = true, err })
}

// wait counts those who wait: for them, heartbeats and idle positions come often.
func (b *board) wait(one int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting += one
}

func (b *board) over() (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended, b.err
}

func (b *board) awaited() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting > 0
}

func (b *board) session() *stream.Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stream
}

func (b *board) beat() migration.Beat {
	b.mu.Lock()
	defer b.mu.Unlock()
	beat := migration.Beat{Changes: b.base + b.changes, Notes: slices.Concat(b.kept, b.notes)}
	if b.held {
		beat.Notes = append(beat.Notes, noteStandbys)
	}
	beat.SetWAL(b.wal)
	positions := migration.Positions{Applied: b.position, Source: b.slot.Current}
	if b.stream != nil {
		positions.Confirmed = b.stream.Confirmed()
		positions.Source = max(positions.Source, b.stream.SourceEnd())
		tables := b.tables
		beat.Tables = &tables
	}
	beat.LSN = &positions
	return beat
}

// await returns nil once reached says so, which is asked under the lock after every change. It fails when the stream has
// ended before.
func (b *board) await(ctx context.Context, reached func() bool) error {
	b.wait(+1)
	defer b.wait(-1)
	for {
		b.mu.Lock()
		done, ended, err, changed := reached(), b.ended, b.err, b.changed
		b.mu.Unlock()
		switch {
		case done:
			return nil
		case ended:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
