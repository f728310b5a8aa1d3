package bulk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// A chunk, a key and an index cost a dozen transactions whatever the table holds. Small tables go together: one transaction on
// each side copies them under one snapshot, which holds for each of them what it would for one alone, and another builds
// their keys and indexes. Those that hold nothing are seen to hold nothing, and nothing is copied. Whatever fails for all of
// them is done again one by one, so that one table that cannot be copied is named, and keeps no other from it.

const (
	// smallBytes is what a table may have been planned with, and smallGrown what it may hold by now, to be copied with others.
	smallBytes = 128 << 10
	smallGrown = 1 << 20
	// togetherMax bounds the locks of a transaction: each table has its indexes too.
	togetherMax = 50
)

// together reports whether a chunk is a whole small table that nothing special is to be done with.
func (w *worker) together(c ledger.Chunk) bool {
	t := w.tables[c.RelID]
	return c.Fresh && c.Low == nil && c.High == nil && c.Bytes <= smallBytes && t.Kind == "r" && !t.Held && !t.Keep && !t.Merged
}

// copyTogether copies small tables in one transaction and finishes them, and does alone what cannot be done so.
func (w *worker) copyTogether(ctx context.Context, claimed []ledger.Chunk) error {
	b := batch{chunks: map[uint32]ledger.Chunk{}}
	var alone []ledger.Chunk
	for _, c := range claimed {
		if w.together(c) {
			b.chunks[c.RelID] = c
		} else {
			alone = append(alone, c)
		}
	}
	switch err := w.copyBatch(ctx, &b); {
	case errors.Is(err, ledger.ErrEpoch):
		return nil
	case err != nil && !w.oneByOne(ctx, err):
		return err
	case err != nil:
		w.config.Log.Debug("small tables were not copied together", zap.Int("tables", len(b.chunks)), zap.Error(err))
		alone = claimed
	default:
		alone = append(alone, b.large...)
		if err := w.finishBatch(ctx, b); err != nil {
			return err
		}
	}
	for _, c := range alone {
		if err := w.connect(ctx); err != nil {
			return err
		}
		if err := w.copyAlone(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// oneByOne reports whether a failure may be that of one table.
func (w *worker) oneByOne(ctx context.Context, err error) bool {
	fault, ok := migration.AsFault(err)
	return ctx.Err() == nil && (!ok || !slices.Contains([]migration.FaultKind{
		migration.FaultConnection, migration.FaultFenced, migration.FaultReplaced, migration.FaultWrongServer,
	}, fault.Kind))
}

// batch is what one transaction copies.
type batch struct {
	chunks map[uint32]ledger.Chunk
	done   ledger.SmallCopied
	large  []ledger.Chunk // that are not small any more
	late   []uint32       // for which there was no time
}

// copyBatch is copyChunk for several.
func (w *worker) copyBatch(ctx context.Context, b *batch) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := &reading{begun: time.Now(), divisible: true, stop: stop}
	for relid, c := range b.chunks {
		r.chunk, r.relids = c, append(r.relids, relid)
	}
	slices.Sort(r.relids)
	r.under = w.sharedBy(r.chunk)
	w.reading.Store(r)
	defer w.reading.Store(nil)
	err := w.write(ctx, func(tx pgx.Tx) error { return w.fillBatch(ctx, tx, b, r) })
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, ledger.ErrEpoch) || errors.Is(cause, errGaveWay) || errors.Is(cause, errTooLong)) {
		return cause
	}
	if err != nil {
		return w.config.Target.Fault("copy", "small tables", err)
	}
	for i := range b.done.RelIDs {
		w.done.Chunks++
		w.done.Rows += b.done.Rows[i]
		w.done.Bytes += b.done.Bytes[i]
	}
	w.config.Log.Debug("small tables copied", zap.Int("tables", len(b.done.RelIDs)), zap.Duration(migration.KeyElapsed, time.Since(r.begun)))
	return failpoint.Hit(failpoint.CopyAfterCommit)
}

// fillBatch is fill for several.
func (w *worker) fillBatch(ctx context.Context, tx pgx.Tx, b *batch, r *reading) error {
	defer w.inFlight.Store(0)
	if _, err := tx.Exec(ctx, "set local synchronous_commit = on"); err != nil {
		return err
	}
	mine, err := ledger.LockSmall(ctx, tx, w.lane.ID, r.relids)
	if err != nil || len(mine) == 0 {
		return err
	}
	var all tables
	for _, relid := range r.relids {
		if mine[relid] {
			all = append(all, w.tables[relid])
		}
	}
	if err := w.config.Gate.Query(ctx); err != nil {
		return err
	}
	at, err := w.read(ctx, all, r.under, func() error { return w.transferBatch(ctx, b, all, r.begun) })
	if err != nil {
		return err
	}
	b.done.Snapshot, b.done.LSN = at.snapshot, at.lsn
	if r.under != nil {
		b.done.Epoch = r.under.epoch
	}
	if err := ledger.FinishSmall(ctx, tx, w.lane, b.done); err != nil {
		return err
	}
	if err := ledger.GiveBack(ctx, tx, w.lane, b.late); err != nil {
		return err
	}
	return failpoint.Hit(failpoint.CopyBeforeCommit)
}

// transferBatch copies the tables that hold rows, as long as nobody can have waited long for any of them.
func (w *worker) transferBatch(ctx context.Context, b *batch, all tables, begun time.Time) error {
	filled, large, err := w.filled(ctx, all)
	if err != nil {
		return err
	}
	for i, t := range all {
		var rows, bytes int64
		switch {
		case large[i]:
			b.large = append(b.large, b.chunks[t.OID])
			continue
		case filled[i] && time.Since(begun) > w.config.GiveWayAfter:
			b.late = append(b.late, t.OID)
			continue
		case filled[i]:
			if rows, bytes, err = w.transferSmall(ctx, t, b.chunks[t.OID].Bytes); err != nil {
				return err
			}
		}
		b.done.RelIDs = append(b.done.RelIDs, t.OID)
		b.done.Rows, b.done.Bytes = append(b.done.Rows, rows), append(b.done.Bytes, bytes)
	}
	return nil
}

func (w *worker) transferSmall(ctx context.Context, t ledger.Table, most int64) (rows, bytes int64, err error) {
	as, err := w.form(ctx, t.Table)
	if err != nil {
		return 0, 0, err
	}
	if err := w.config.Gate.Query(ctx); err != nil {
		return 0, 0, err
	}
	before := w.inFlight.Load()
	return w.pipe(ctx, w.source, w.target, copyOut(t.Table, span{}, as), copyIn(t.Target.SQL(), t.Table, as),
		func(n int) { w.inFlight.Store(min(w.inFlight.Load()+int64(n), before+most)) })
}

// filled tells which of the tables hold rows that are to be copied, and which are not small any more.
func (w *worker) filled(ctx context.Context, all tables) (filled, large []bool, err error) {
	rows := make([]string, len(all))
	for i, t := range all {
		rows[i] = fmt.Sprintf("exists (select from %s)", rowsOf(t.Table, span{}))
	}
	err = w.source.QueryRow(ctx, "select array["+strings.Join(rows, ", ")+"], array(select pg_table_size(o.oid) > $2 "+
		"from unnest($1::oid[]) with ordinality o (oid, n) order by o.n)", pgx.QueryExecModeExec, all.oids(), smallGrown).Scan(&filled, &large)
	return filled, large, w.config.Source.Fault("look at", all.String(), err)
}

// finishBatch builds keys and indexes of the tables that were copied together, and gives the planner statistics of those
// that hold rows.
func (w *worker) finishBatch(ctx context.Context, b batch) error {
	if len(b.done.RelIDs) == 0 {
		return nil
	}
	built, err := w.buildBatch(ctx, b.done)
	if err != nil && !w.oneByOne(ctx, err) {
		return w.config.Target.Fault("finish", "small tables", err)
	}
	if err == nil && built {
		err = w.write(ctx, func(tx pgx.Tx) error {
			return ledger.FinishTables(ctx, tx, w.lane, b.done.RelIDs, !w.held())
		})
		if err == nil {
			w.config.Log.Info("small tables finished", zap.Int("tables", len(b.done.RelIDs)))
		}
		if err == nil || errors.Is(err, ledger.ErrEpoch) {
			return nil
		}
		return w.config.Target.Fault("finish", "small tables", err)
	}
	w.config.Log.Debug("small tables were not finished together", zap.Int("tables", len(b.done.RelIDs)), zap.Error(err))
	for _, relid := range b.done.RelIDs {
		if err := w.connect(ctx); err != nil {
			return err
		}
		if err := w.finishClaimed(ctx, w.tables[relid]); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) buildBatch(ctx context.Context, done ledger.SmallCopied) (bool, error) {
	var analyze []string
	for i, relid := range done.RelIDs {
		if err := failpoint.Hit(failpoint.TableIndex); err != nil {
			return false, err
		}
		if done.Rows[i] > 0 {
			analyze = append(analyze, "analyze "+w.tables[relid].Target.SQL())
		}
	}
	built, err := w.finisher.Together(ctx, done.RelIDs)
	if err != nil || !built || len(analyze) == 0 {
		return built, err
	}
	_, err = w.target.Exec(ctx, strings.Join(analyze, "; "), pgx.QueryExecModeSimpleProtocol)
	return built, w.config.Target.Fault("analyze", "small tables", err)
}
