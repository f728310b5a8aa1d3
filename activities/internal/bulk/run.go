package bulk

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Copied is what one attempt at a lane has done.
type Copied struct {
	Chunks int64
	Rows   int64
	Bytes  int64 // of the COPY streams
	Left   bool  // the lane made room for others, and something is unfinished
}

// idleLeast and idleMost are how long a lane without work waits before it looks again: a tenth of what it has waited already, so
// that nobody waits long for it, and one that waits for hours while others build indexes costs the target little. A look that
// takes long is waited for as much longer.
const (
	idleLeast = 200 * time.Millisecond
	idleMost  = 2 * time.Second
	idleShare = 10
)

// lookEvery is how often a lane that copies looks for tables that others have left to be completed or finished, and for chunks
// that were due before the ones it is at: more seldom where a look takes more than a hundredth of the time.
const (
	lookEvery = time.Second
	lookShare = 100
)

// Run copies chunks and finishes tables until every table of the migration is finished, also those of lanes that have
// died. A statement that fails is recorded at its chunk or table and tried again, while others go on, until
// spec.Retry.Other has passed since its first failure. Any other fault ends Run; a later attempt goes on where it was.
// report is called by one goroutine at a time, every few seconds. A lane without work for longer than Config.Patience leaves.
func Run(ctx context.Context, config Config, lane ledger.Lane, finisher Finisher, report func(migration.Beat)) (Copied, error) {
	w := &worker{config: config.withDefaults(), lane: lane, finisher: finisher}
	defer w.close()
	if err := w.open(ctx); err != nil {
		return Copied{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { // ends with the work, or when the target no longer answers
		return w.monitor(ctx, report)
	})
	group.Go(func() error { // ends with the work
		w.lookOut(ctx)
		return nil
	})
	group.Go(func() error {
		defer cancel()
		return w.work(ctx)
	})
	err := group.Wait()
	return w.done, err
}

// worker is one attempt at a lane.
type worker struct {
	config   Config
	lane     ledger.Lane
	finisher Finisher

	source, target *pgx.Conn
	aside          *pgx.Conn // on the source, once it was needed
	main           ledger.Migration
	tables         map[uint32]ledger.Table // that were worked on lately, and those that are

	done     Copied
	last     bool         // the chunk copied last may have been its table's last
	lookDue  time.Time    // when to look for tables to finish
	wholeDue time.Time    // when to look for tables to complete
	at       int64        // where in the order of claiming this lane is
	backDue  time.Time    // when to look for what is before that
	idle     time.Time    // since when there is nothing to do
	inFlight atomic.Int64 // bytes of the chunk being copied
	reading  atomic.Pointer[reading]
	anyHeld  bool // some tables have a snapshot of their own
	holds    map[uint32]*tableHold
	whole    map[chunkID]bool  // chunks that could not be split
	known    map[uint32]string // versions of the catalog's rows about tables that were looked at
	gone     int               // the epoch whose snapshot was found lost
	waiting  time.Time         // since when there is no snapshot to copy under
}

func (w *worker) close() {
	for relid := range w.holds {
		w.dropHold(relid)
	}
	pg.Close(w.aside)
	pg.Close(w.source)
	pg.Close(w.target)
}

// open connects, and ends what an earlier attempt left on the source.
func (w *worker) open(ctx context.Context) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.lane.TerminateEarlier(ctx, w.source); err != nil {
		return w.config.Source.Fault("end earlier sessions", "", err)
	}
	var err error
	if w.anyHeld, err = w.book().AnyHeld(ctx); err != nil {
		return w.config.Target.Fault("read tables of", string(w.lane.ID), err)
	}
	w.tables, w.holds, w.whole = map[uint32]ledger.Table{}, map[uint32]*tableHold{}, map[chunkID]bool{}
	w.known = map[uint32]string{}
	return nil
}

// connect opens the sessions that are not open: a copy that failed half-way closes the source's.
func (w *worker) connect(ctx context.Context) (err error) {
	if w.target == nil || w.target.IsClosed() {
		if w.target, err = w.config.Target.Connect(ctx, w.lane.Session()); err != nil {
			return err
		}
		pg.MayStall(w.target) // the monitor notices
		// Claims and notes may be lost with the target: they would be made again. What must not asks for more by itself.
		if _, err := w.target.Exec(ctx, "set synchronous_commit = off"); err != nil {
			return w.config.Target.Fault("set up session", "", err)
		}
		// Triggers of tables that were there before are not for copied rows. Where the right is missing they fire.
		if _, err := pg.TryReplicaRole(ctx, w.target); err != nil {
			return w.config.Target.Fault("set replica role", "", err)
		}
		if w.main, err = (ledger.Ledger{ID: w.lane.ID, Conn: w.target}).Read(ctx); err != nil {
			return w.config.Target.Fault("read ledger of", string(w.lane.ID), err)
		}
		if !w.main.Planned || !w.held() && (w.main.StartSnapshot.IsZero() || w.main.SystemID == "") {
			return migration.Faultf(migration.FaultBug, "copy", string(w.lane.ID), "slot or plan are not in the ledger")
		}
	}
	if w.source != nil && !w.source.IsClosed() {
		return nil
	}
	if w.source, err = w.config.Source.ConnectThrough(ctx, w.lane.Session(), newFrames); err != nil {
		return err
	}
	if err := w.sameServer(ctx); err != nil {
		return err
	}
	// Lanes are the parallelism; a chunk's query must not multiply it.
	_, err = w.source.Exec(ctx, "set max_parallel_workers_per_gather = 0")
	return w.config.Source.Fault("set up session", "", err)
}

// work goes on until all tables are finished. A lane without work waits: it is there to take over what another leaves.
func (w *worker) work(ctx context.Context) error {
	for {
		began := time.Now()
		if err := w.connect(ctx); err != nil {
			return err
		}
		worked, err := w.step(ctx)
		if err != nil {
			return err
		}
		if worked {
			w.idle = time.Time{}
			continue
		}
		left, err := w.book().Unfinished(ctx)
		if err != nil {
			return w.config.Target.Fault("read ledger of", string(w.lane.ID), err)
		}
		if !left {
			return nil
		}
		if w.idle.IsZero() {
			w.idle = time.Now()
		}
		if w.mayLeave() {
			w.done.Left = true
			return nil
		}
		pause := max(idleLeast, min(idleMost, time.Since(w.idle)/idleShare), idleShare*time.Since(began))
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// mayLeave reports whether this lane should make room: what is unfinished may be claimed by one that is dead or frozen, and the
// attempt that takes over from that one may be waiting for the room that this one idles in.
func (w *worker) mayLeave() bool {
	patience := w.config.Patience
	return patience > 0 && time.Since(w.idle) > patience && len(w.holds) == 0 && w.waiting.IsZero()
}

// step does one piece of work, if there is any. Tables are finished while others are copied, but not by so many lanes
// that the copy stands still.
func (w *worker) step(ctx context.Context) (bool, error) {
	worked, err := w.finishDue(ctx)
	if !worked && err == nil {
		worked, err = w.holdNext(ctx)
	}
	if !worked && err == nil {
		worked, err = w.nextChunk(ctx)
	}
	if !worked && err == nil {
		worked, err = w.finishTable(ctx, w.config.builders(false))
	}
	if !worked && err == nil {
		worked, err = w.complete(ctx, 0)
	}
	return worked, err
}

func (w *worker) book() ledger.Ledger { return ledger.Ledger{ID: w.lane.ID, Conn: w.target} }

// snapshotHeld reports whether chunks can be copied: where all tables are copied under one snapshot, while its holder
// lives. It waits for another holder for a while only, since the one who starts it may be waiting for us.
func (w *worker) snapshotHeld(ctx context.Context) (bool, error) {
	if !w.held() {
		return true, nil
	}
	var err error
	if w.main, err = w.book().Read(ctx); err != nil {
		return false, w.config.Target.Fault("read ledger of", string(w.lane.ID), err)
	}
	if w.main.SnapshotName != "" && w.main.SnapshotEpoch != w.gone {
		w.waiting = time.Time{}
		return true, nil
	}
	left, err := w.book().ChunksLeft(ctx)
	switch {
	case err != nil:
		return false, w.config.Target.Fault("read ledger of", string(w.lane.ID), err)
	case !left:
		return false, nil
	case w.waiting.IsZero():
		w.waiting = time.Now()
	case time.Since(w.waiting) > w.config.SnapshotWait:
		fault := migration.Faultf(migration.FaultConnection, "source copy", string(w.lane.ID), "no session has held a snapshot for %s", w.config.SnapshotWait)
		fault.Side = migration.Source
		return false, fault
	}
	return false, nil
}

// giveUpEpoch lets the holder take another snapshot.
func (w *worker) giveUpEpoch(ctx context.Context) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	w.config.Log.Warn("gave up the snapshot of the copy", zap.Int("epoch", w.main.SnapshotEpoch))
	return w.config.Target.Fault("give up the snapshot of", string(w.lane.ID), w.write(ctx, func(tx pgx.Tx) error {
		return w.lane.GiveUpEpoch(ctx, tx, w.main.SnapshotEpoch)
	}))
}

// endure records a failure that may pass by itself, so that everything else goes on; other faults it gives back. When
// the object has been failing for longer than the window, so does the migration.
func (w *worker) endure(ctx context.Context, err error, record func(pgx.Tx, string) (time.Duration, error)) error {
	fault, ok := migration.AsFault(err)
	if !ok || ctx.Err() != nil || fault.Kind != migration.FaultOther && fault.Kind != migration.FaultPrivilege {
		return err
	}
	if err := w.connect(ctx); err != nil {
		return err
	}
	var outage time.Duration
	writeErr := w.write(ctx, func(tx pgx.Tx) (err error) {
		outage, err = record(tx, fault.Error())
		return err
	})
	if writeErr != nil {
		return w.config.Target.Fault("record a failure at", fault.Object, writeErr)
	}
	w.config.Log.Warn("attempt failed", zap.String(migration.KeyTable, fault.Object),
		zap.Duration(migration.KeyElapsed, outage), zap.String(migration.KeySQLState, fault.SQLState), zap.Error(err))
	if window := w.config.Spec.Retry.Other.D(); outage > window {
		ended := migration.NewFault(migration.FaultWindow, fault.Op, fault.Object,
			fmt.Errorf("failing for longer than retry.other (%s): %w", window, fault), fault.Hint)
		ended.Side, ended.SQLState = fault.Side, fault.SQLState
		ended.Message = fmt.Sprintf("failing for longer than retry.other (%s): %s", window, fault.Message)
		return ended
	}
	return nil
}

// named puts an object into a fault that does not say what it was about.
func named(err error, object string) error {
	if fault, ok := migration.AsFault(err); ok && fault.Object == "" {
		fault.Object = object
	}
	return err
}

// write runs work in a guarded transaction of the target.
func (w *worker) write(ctx context.Context, work func(pgx.Tx) error) error {
	tx, err := w.target.Begin(ctx)
	if err != nil {
		return err
	}
	defer rollback(tx)
	if err := w.lane.Guard(ctx, tx); err != nil {
		return err
	}
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
