package apply

import (
	"context"

	"github.com/pgdts/pgdts/activities/internal/wal"
)

// executor carries out what folding came to.
type executor interface {
	// do carries out an action after all earlier ones.
	do(ctx context.Context, a action) error
	// putOrRefetch sets the columns that the image has; where the row is missing, it is read from the source under a
	// snapshot that sees the transaction.
	putOrRefetch(ctx context.Context, tx *wal.Transaction, t *table, image row) error
}

// walk takes changes in stream order and hands out actions.
type walk struct {
	executor
	single bool // nothing folds, not even insertions in a row
	folds  map[*table]*fold
	order  []*fold            // in use
	owners map[ownedKey]*fold // of tables that meet: the last that has gathered something about a key
}

// event takes one change. An error of the executor may belong to an earlier change.
func (w *walk) event(ctx context.Context, tx *wal.Transaction, t *table, e event) error {
	f := w.fold(t)
	if err := w.giveWay(ctx, f, &e); err != nil {
		return err
	}
	if e.band && e.moved && e.partial && !e.inPlace() {
		return w.moveInBand(ctx, tx, f, e)
	}
	if !f.add(e) {
		if err := f.flush(ctx, w); err != nil {
			return err
		}
		f.add(e)
	}
	if w.single {
		return f.flush(ctx, w)
	}
	return nil
}

// moveInBand takes nothing from the old row, which may be another one by now.
func (w *walk) moveInBand(ctx context.Context, tx *wal.Transaction, f *fold, e event) error {
	if err := f.flush(ctx, w); err != nil {
		return err
	}
	old := action{table: f.table, kind: remove, rows: []rowChange{{at: e.at}}, expect: uncounted}
	if err := w.do(ctx, old); err != nil {
		return err
	}
	return w.putOrRefetch(ctx, tx, f.table, e.image)
}

func (w *walk) fold(t *table) *fold {
	f := w.folds[t]
	if f == nil {
		f = newFold(t)
		w.folds[t] = f
	}
	if !f.listed {
		f.listed = true
		w.order = append(w.order, f)
	}
	return f
}

// flush writes everything that was gathered.
func (w *walk) flush(ctx context.Context) error {
	for _, f := range w.order {
		if err := f.flush(ctx, w); err != nil {
			return err
		}
		f.listed = false
	}
	w.order = w.order[:0]
	clear(w.owners)
	return nil
}

// flushTable writes what was gathered of one table.
func (w *walk) flushTable(ctx context.Context, t *table) error {
	if f := w.folds[t]; f != nil {
		return f.flush(ctx, w)
	}
	return nil
}

// empty reports whether nothing was gathered of a table.
func (w *walk) empty(t *table) bool { return w.folds[t] == nil || len(w.folds[t].entries) == 0 }

// reset forgets what was gathered.
func (w *walk) reset() {
	for _, f := range w.order {
		f.reset()
		f.listed = false
	}
	w.order = w.order[:0]
	clear(w.owners)
}
