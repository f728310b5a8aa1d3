package apply

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Idle records that nothing up to a position is unapplied: a position may be confirmed to the source only after it was
// written here. It closes the bands that end there. A position that is not new costs nothing.
func (a *Applier) Idle(ctx context.Context, position migration.LSN) error {
	if err := a.usable(); err != nil {
		return err
	}
	if a.unended != nil {
		return a.fail("apply", migration.Faultf(migration.FaultBug, "move to an idle position", "", "transaction %d has not ended", a.unended.XID))
	}
	position = max(position, a.position)
	if position == a.position && len(a.ending(position)) == 0 {
		return nil
	}
	if err := a.idle(ctx, position); err != nil {
		return a.fail("move to an idle position", err)
	}
	return nil
}

func (a *Applier) idle(ctx context.Context, position migration.LSN) error {
	a.begin(ctx)
	a.counted = Stats{}
	a.finish(ctx, position, nil)
	var failed *misfit
	if err := a.pipe.flush(ctx); errors.As(err, &failed) {
		return a.lost(ctx, failed)
	} else if err != nil {
		return err
	}
	return a.commit(ctx, position)
}

// ending are the tables whose band ends at a position.
func (a *Applier) ending(position migration.LSN) []*table {
	var tables []*table
	for t := range a.bands {
		if t.copied() && position >= t.high {
			tables = append(tables, t)
		}
	}
	return tables
}

// finish queues what the ledger must know when the transaction commits.
func (a *Applier) finish(ctx context.Context, position migration.LSN, last *wal.Transaction) {
	lane := a.config.Lane
	for _, e := range a.extended {
		a.pipe.ledger(ctx, lane.ExtendBand(e.table.relid, e.snapshot, e.high))
	}
	for _, shape := range a.reshaped {
		a.pipe.ledger(ctx, shape.record)
	}
	for _, t := range a.ending(position) {
		a.pipe.ledger(ctx, lane.CloseBand(t.relid))
	}
	if n := a.held.Changes + a.counted.Changes; n > 0 {
		a.pipe.ledger(ctx, lane.AddChanges(n))
	}
	var committed time.Time
	if last != nil {
		committed = last.Time
	}
	a.pipe.ledger(ctx, lane.MoveProgress(a.position, position, committed))
}

// commit makes the open transaction durable. When the connection is lost here, nobody knows whether it is; the progress
// row does.
func (a *Applier) commit(ctx context.Context, position migration.LSN) error {
	if err := failpoint.Hit(failpoint.ApplyBeforeCommit); err != nil {
		return err
	}
	a.pipe.plain(ctx, "commit")
	if err := a.pipe.flush(ctx); err != nil {
		return refusedLate(err)
	}
	a.position = position
	a.stats.Changes += a.held.Changes + a.counted.Changes
	if n := a.held.Conflicts + a.counted.Conflicts; n > 0 {
		a.stats.Conflicts += n
		a.config.Logger.Warn("rows of the target did not fit, and the source won", zap.Int64(migration.KeyRows, n),
			zap.Stringer(migration.KeyLSN, position), zap.String(migration.KeyHint, "see dts_sync.conflict on the target"))
	}
	a.held, a.counted, a.extended, a.reshaped, a.unended, a.current = Stats{}, Stats{}, a.extended[:0], a.reshaped[:0], nil, nil
	for _, t := range a.ending(position) {
		t.pass(position)
		delete(a.bands, t)
		t.planned.Stage = migration.StageExact
		a.config.Logger.Info("closed the band of a table", zap.String(migration.KeyTable, t.planned.Name.String()),
			zap.Stringer(migration.KeyLSN, position))
	}
	return nil
}

// refusedLate is for deferred constraints, which speak at the commit.
func refusedLate(err error) error {
	if !strings.HasPrefix(pg.SQLState(err), "23") {
		return err
	}
	fault, ok := migration.AsFault(pg.Fault(migration.Target, "commit", "", err))
	if ok {
		fault.Kind, fault.Hint = migration.FaultConflict, hintConstraint
	}
	return fault
}
