package bulk

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// finishDue finishes a table that this lane has completed, and looks now and then for what others have left.
func (w *worker) finishDue(ctx context.Context) (bool, error) {
	switch {
	case w.last:
	case time.Now().Before(w.lookDue):
		return false, nil
	default:
		began := time.Now()
		w.lookDue = began.Add(lookEvery)
		if began.Before(w.wholeDue) {
			break
		}
		if _, err := w.complete(ctx, 0); err != nil {
			return false, err
		}
		w.wholeDue = time.Now().Add(max(lookEvery, lookShare*time.Since(began)))
	}
	worked, err := w.finishTable(ctx, w.config.builders(true))
	w.last = worked // there may be another
	return worked, err
}

// complete notes which tables have no undone chunk left.
func (w *worker) complete(ctx context.Context, relid uint32) (bool, error) {
	var n int
	err := w.write(ctx, func(tx pgx.Tx) (err error) {
		n, err = ledger.Complete(ctx, tx, w.lane.ID, relid)
		return err
	})
	return n > 0, w.config.Target.Fault("complete tables of", string(w.lane.ID), err)
}

// finishTable builds key and plain indexes of a copied table.
func (w *worker) finishTable(ctx context.Context, others int) (bool, error) {
	var relid uint32
	var found bool
	err := w.write(ctx, func(tx pgx.Tx) (err error) {
		relid, found, err = ledger.ClaimTable(ctx, tx, w.lane, others)
		return err
	})
	if err != nil || !found {
		return false, w.config.Target.Fault("claim a table", "", err)
	}
	if err := w.learn(ctx, relid); err != nil {
		return false, err
	}
	return true, w.finishClaimed(ctx, w.tables[relid])
}

// finishClaimed finishes a table that this lane has taken.
func (w *worker) finishClaimed(ctx context.Context, t ledger.Table) error {
	err := w.finish(ctx, t)
	if errors.Is(err, ledger.ErrEpoch) {
		return nil
	}
	if err != nil {
		err = named(w.config.Target.Fault("finish", t.Name.String(), err), t.Name.String())
		return w.endure(ctx, err, func(tx pgx.Tx, message string) (time.Duration, error) {
			return ledger.FailTable(ctx, tx, w.lane, t.OID, message)
		})
	}
	w.config.Log.Info("table finished", zap.String(migration.KeyTable, t.Name.String()))
	return nil
}

func (w *worker) finish(ctx context.Context, t ledger.Table) error {
	if err := failpoint.Hit(failpoint.TableIndex); err != nil {
		return err
	}
	if err := w.finisher.Key(ctx, t.OID); err != nil {
		return err
	}
	if err := w.finisher.Indexes(ctx, t.OID); err != nil {
		return err
	}
	if t.Mode != migration.ModeRoot { // expressions of indexes have statistics, too
		if _, err := w.target.Exec(ctx, "analyze "+t.Target.SQL()); err != nil {
			return err
		}
	}
	return w.write(ctx, func(tx pgx.Tx) error { return ledger.FinishTables(ctx, tx, w.lane, []uint32{t.OID}, !w.held()) })
}
