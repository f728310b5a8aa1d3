package bulk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// errTaken means that the chunk is done or in somebody else's hands.
var errTaken = errors.New("the chunk is taken")

// errGaveWay means that somebody waited for the table's lock.
var errGaveWay = errors.New("the copy gave way to a statement that needs the table for itself")

// reading is the chunk that is being copied, and what ends it before its time.
type reading struct {
	chunk     ledger.Chunk
	relids    []uint32 // of its table, and of those that are copied with it
	under     *shared
	divisible bool
	begun     time.Time
	stop      context.CancelCauseFunc
}

// copyChunk copies a chunk in one transaction of the target. When it fails nothing of it remains; when the commit's
// answer was lost, the chunk's row says what became of it.
func (w *worker) copyChunk(ctx context.Context, c ledger.Chunk) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	t := w.tables[c.RelID]
	under := w.sharedBy(c)
	w.reading.Store(&reading{chunk: c, relids: []uint32{c.RelID}, under: under, divisible: w.divisible(c), begun: time.Now(), stop: stop})
	defer w.reading.Store(nil)
	var done ledger.Copied
	err := w.write(ctx, func(tx pgx.Tx) (err error) {
		done, err = w.fill(ctx, tx, t, c, under)
		return err
	})
	if cause := context.Cause(ctx); err != nil && (errors.Is(cause, ledger.ErrEpoch) || errors.Is(cause, errGaveWay) || errors.Is(cause, errTooLong)) {
		return cause
	}
	if err != nil {
		err = w.config.Target.Fault("copy", "", w.explain(ctx, t, err))
		if fault, ok := migration.AsFault(err); ok {
			fault.Object = fmt.Sprintf("%s (chunk %d)", t.Name, c.No)
		}
		return err
	}
	w.done.Chunks++
	w.done.Rows += done.Rows
	w.done.Bytes += done.Bytes
	w.config.Log.Debug("chunk copied", zap.String(migration.KeyTable, t.Name.String()), zap.Int(migration.KeyChunk, c.No),
		zap.Int64(migration.KeyRows, done.Rows), zap.Int64(migration.KeyBytes, done.Bytes))
	return failpoint.Hit(failpoint.CopyAfterCommit)
}

// fill does a chunk's work in the target's transaction.
func (w *worker) fill(ctx context.Context, tx pgx.Tx, t ledger.Table, c ledger.Chunk, under *shared) (ledger.Copied, error) {
	var done ledger.Copied
	// A commit that the target could forget would be a loss: the stream does not carry these rows.
	if _, err := tx.Exec(ctx, "set local synchronous_commit = on"); err != nil {
		return done, err
	}
	mine, err := ledger.LockChunk(ctx, tx, w.lane.ID, c)
	if err != nil {
		return done, err
	}
	if !mine {
		return done, errTaken
	}
	if done, err = w.transfer(ctx, tx, t, c, under); err != nil {
		return done, err
	}
	if w.last, err = ledger.FinishChunk(ctx, tx, w.lane, c, done); err != nil {
		return done, err
	}
	return done, failpoint.Hit(failpoint.CopyBeforeCommit)
}

// transfer moves the rows of a chunk into the target's open transaction.
func (w *worker) transfer(ctx context.Context, tx pgx.Tx, t ledger.Table, c ledger.Chunk, under *shared) (ledger.Copied, error) {
	var done ledger.Copied
	defer w.inFlight.Store(0)
	as, err := w.form(ctx, t.Table)
	if err != nil {
		return done, err
	}
	into := t.Target.SQL()
	if as.frozen = mayFreeze(t, c); as.frozen {
		if _, err := tx.Exec(ctx, "truncate only "+into); err != nil {
			return done, err
		}
	}
	if t.Keep {
		if into, err = stage(ctx, tx, t); err != nil {
			return done, err
		}
	}
	// Before the table is locked: the wait may be long.
	if err := w.config.Gate.Query(ctx); err != nil {
		return done, err
	}
	at, err := w.read(ctx, tables{t}, under, func() (err error) {
		done.Rows, done.Bytes, err = w.pipe(ctx, w.source, w.target, copyOut(t.Table, spanOf(t, c), as), copyIn(into, t.Table, as),
			func(n int) { w.inFlight.Store(min(w.inFlight.Load()+int64(n), c.Bytes)) })
		return err
	})
	done.Snapshot, done.LSN = at.snapshot, at.lsn
	switch {
	case under == nil:
	case under.relid == 0:
		done.Epoch = under.epoch
	default:
		done.TableEpoch = under.epoch
	}
	if err != nil || !t.Keep {
		return done, err
	}
	sent := done.Rows
	done.Rows, err = w.keep(ctx, tx, t)
	done.Kept = sent - done.Rows
	return done, err
}

// frozenLeast is what a table must hold before freezing its rows pays for another file.
const frozenLeast = 1 << 20

// mayFreeze reports whether the chunk is all that its table of the target will hold, and the table is ours to empty: then
// nobody has to look at its rows again to see that they are committed, and a target with wal_level = minimal logs none.
func mayFreeze(t ledger.Table, c ledger.Chunk) bool {
	return c.Low == nil && c.High == nil && c.Bytes >= frozenLeast && t.Kind == "r" && t.Extension == "" && !t.Existing && !t.Keep && !t.Merged
}

// explain says what a value means that a unique index of the target refuses, where the table has rows of others too: it
// does not go away by itself.
func (w *worker) explain(ctx context.Context, t ledger.Table, err error) error {
	if pg.SQLState(err) != "23505" || !t.Merged && !t.Keep {
		return err
	}
	fault, ok := migration.AsFault(w.config.Target.Fault("copy in", "", err))
	if !ok {
		return err
	}
	cause, hint := "a row of the source has a value that another row of the target has: "+fault.Message,
		"change or delete the row on one of the sides, then: pgdts resume"
	if t.Merged {
		meeting, readErr := w.sourcesOf(ctx, t.Target)
		if readErr != nil {
			return err
		}
		cause = fmt.Sprintf("rows of %s meet in %s: %s", strings.Join(meeting, " and "), t.Target, fault.Message)
		hint = "tell the sources apart by a key column that transform.set gives another constant for each; " +
			"with disjoint: true you vouch that their keys never meet"
	}
	conflict := migration.NewFault(migration.FaultConflict, fault.Op, fault.Object, errors.New(cause), hint)
	conflict.Side, conflict.SQLState = fault.Side, fault.SQLState
	return conflict
}

const readSources = `
select schema || '.' || name from dts_sync.tbl where migration = $1 and target_schema = $2 and target_name = $3 order by 1`

// sourcesOf names the tables that are written into one of the target, by name.
func (w *worker) sourcesOf(ctx context.Context, target migration.TableName) ([]string, error) {
	return pg.Strings(ctx, w.target, readSources, w.lane.ID, target.Schema, target.Name)
}
