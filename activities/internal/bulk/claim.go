package bulk

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// from is where in the order of claiming to look for what is next. What others have given back is before that, so a lane looks
// back now and then.
func (w *worker) from() int64 {
	if time.Now().Before(w.backDue) {
		return w.at
	}
	return 0
}

// nextChunk copies a chunk that is due, or several tables that are small. The attempt is counted before it begins, so that
// one that kills the process counts too.
func (w *worker) nextChunk(ctx context.Context) (bool, error) {
	if there, err := w.snapshotHeld(ctx); err != nil || !there {
		return false, err
	}
	claimed, err := w.claim(ctx)
	switch {
	case err != nil || len(claimed) == 0:
		return false, w.config.Target.Fault("claim a chunk", "", err)
	case len(claimed) > 1:
		return true, w.copyTogether(ctx, claimed)
	}
	return true, w.copyAlone(ctx, claimed[0])
}

// claim takes the next chunk, and where that is a small table others like it.
func (w *worker) claim(ctx context.Context) (claimed []ledger.Chunk, err error) {
	from, began := w.from(), time.Now()
	err = w.write(ctx, func(tx pgx.Tx) error {
		next, found, err := ledger.ClaimChunk(ctx, tx, w.lane, from)
		if err != nil || !found {
			return err
		}
		claimed = []ledger.Chunk{next}
		if err := w.learn(ctx, next.RelID); err != nil || !w.together(next) {
			return err
		}
		more, err := ledger.ClaimSmall(ctx, tx, w.lane, next.Ord, smallBytes, togetherMax-1)
		if err != nil {
			return err
		}
		claimed = append(claimed, more...)
		return w.learn(ctx, relidsOf(claimed)...)
	})
	if err != nil || len(claimed) == 0 {
		return nil, err
	}
	w.at = claimed[0].Ord
	if from == 0 {
		w.backDue = time.Now().Add(max(lookEvery, lookShare*time.Since(began)))
	}
	return claimed, nil
}

func relidsOf(chunks []ledger.Chunk) []uint32 {
	relids := make([]uint32, len(chunks))
	for i, c := range chunks {
		relids[i] = c.RelID
	}
	return relids
}

// copyAlone copies one chunk that was claimed.
func (w *worker) copyAlone(ctx context.Context, c ledger.Chunk) error {
	if w.tables[c.RelID].Held {
		if err := w.holdToo(ctx, c.Hold); err != nil {
			return err
		}
	}
	if parts := w.tooLarge(c); parts > 1 {
		return w.split(ctx, c, parts)
	}
	err := w.copyChunk(ctx, c)
	var lost *lostNames
	switch {
	case errors.Is(err, errTaken), errors.Is(err, ledger.ErrEpoch):
		return nil
	case errors.As(err, &lost):
		return w.loseNames(ctx, c.Hold, lost.names)
	case errors.Is(err, errGaveWay):
		w.config.Log.Info("copy gave way to a statement that needs the table for itself", zap.String(migration.KeyTable, w.tables[c.RelID].Name.String()))
		return w.putOff(ctx, c)
	case errors.Is(err, errTooLong):
		return w.split(ctx, c, splitParts)
	case errors.Is(err, errRewritten) && w.tables[c.RelID].Held:
		return w.loseNames(ctx, c.Hold, c.Hold.Names)
	case errors.Is(err, errRewritten):
		if err := w.giveUpEpoch(ctx); err != nil {
			return err
		}
		fallthrough
	case err != nil:
		return w.endure(ctx, err, func(tx pgx.Tx, message string) (time.Duration, error) {
			return ledger.FailChunk(ctx, tx, w.lane.ID, c, message)
		})
	}
	if w.last {
		_, err = w.complete(ctx, c.RelID)
	}
	return err
}

// putOff lets those pass who wait for the table.
func (w *worker) putOff(ctx context.Context, c ledger.Chunk) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	return w.config.Target.Fault("put off a chunk", "", w.write(ctx, func(tx pgx.Tx) error {
		return ledger.PutOff(ctx, tx, w.lane.ID, c, w.config.GiveWayAfter)
	}))
}

// tablesMax is how many tables' definitions a lane keeps: one with hundreds of columns takes a hundred kilobytes.
const tablesMax = 4 * togetherMax

// learn reads the definitions of tables that are now to be worked on, and forgets others where it knows many.
func (w *worker) learn(ctx context.Context, relids ...uint32) error {
	unknown := slices.DeleteFunc(slices.Clone(relids), func(relid uint32) bool {
		_, known := w.tables[relid]
		return known
	})
	if len(unknown) == 0 {
		return nil
	}
	read, err := w.book().TablesOf(ctx, unknown)
	if err != nil {
		return w.config.Target.Fault("read tables of", string(w.lane.ID), err)
	}
	if len(w.tables)+len(read) > tablesMax {
		maps.DeleteFunc(w.tables, func(relid uint32, _ ledger.Table) bool { return !slices.Contains(relids, relid) })
		maps.DeleteFunc(w.known, func(relid uint32, _ string) bool { return !slices.Contains(relids, relid) })
	}
	for _, t := range read {
		w.tables[t.OID] = t
	}
	if len(read) != len(unknown) {
		return migration.Faultf(migration.FaultBug, "read tables of", string(w.lane.ID), "%d of %d are not in the ledger", len(unknown)-len(read), len(unknown))
	}
	return nil
}
