package bulk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	reportEvery = 2 * time.Second
	// countShare is how many times as long as a count of all chunks took it holds: with very many of them a lane that counts
	// every time would have the target do little else.
	countShare = 50
)

// monitor reports how far all lanes are and renews the lease, in a session of its own because the worker's are busy. A
// target that does not answer it ends the attempt. It returns when ctx ends.
func (w *worker) monitor(ctx context.Context, report func(migration.Beat)) error {
	conn, err := w.config.Target.Connect(ctx, w.lane.Session())
	if err != nil {
		return ended(ctx, err)
	}
	defer pg.Close(conn)
	book := ledger.Ledger{ID: w.lane.ID, Conn: conn}
	var counted ledger.CopyProgress
	var due time.Time
	for err == nil {
		if err = book.Renew(ctx, w.lane.Run); err != nil {
			err = w.config.Target.Fault("renew the lease on", string(w.lane.ID), err)
			break
		}
		if err = w.abandonLost(ctx, book); err != nil {
			break
		}
		if began := time.Now(); !began.Before(due) {
			if counted, err = book.CopyProgress(ctx); err != nil {
				err = w.config.Target.Fault("read ledger of", string(w.lane.ID), err)
				break
			}
			due = time.Now().Add(countShare * time.Since(began))
		}
		report(w.beat(counted))
		err = sleep(ctx, reportEvery)
	}
	return ended(ctx, err)
}

// abandonLost ends the copying of a chunk whose snapshot was given up: it could not commit any more, and the next one waits
// for its lock.
func (w *worker) abandonLost(ctx context.Context, book ledger.Ledger) error {
	reading := w.reading.Load()
	if reading == nil || reading.under == nil {
		return nil
	}
	var epoch int
	var err error
	if relid := reading.under.relid; relid != 0 {
		var epochs map[uint32]int
		epochs, err = book.TableEpochs(ctx, []uint32{relid})
		epoch = epochs[relid]
	} else {
		var now ledger.Migration
		now, err = book.Read(ctx)
		epoch = now.SnapshotEpoch
	}
	if err == nil && epoch != reading.under.epoch {
		reading.stop(ledger.ErrEpoch)
	}
	return w.config.Target.Fault("read ledger of", string(w.lane.ID), err)
}

// ended drops an error that the end of the work has caused.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

func (w *worker) beat(p ledger.CopyProgress) migration.Beat {
	inFlight := min(w.inFlight.Load(), p.BytesTotal-p.BytesDone)
	beat := migration.Beat{
		At: time.Now(), Message: fmt.Sprintf("%d of %d chunks copied", p.ChunksDone, p.Chunks),
		Done: p.ChunksDone, Total: p.Chunks, Rows: p.Rows, RowsTotal: p.RowsTotal,
		Bytes: p.BytesDone + inFlight, BytesTotal: p.BytesTotal, Tables: &p.Tables,
		Lane: w.lane.Name, InFlight: inFlight, SnapshotsLost: p.SnapshotsLost, Counted: p.Counted,
	}
	if p.FailedAt != nil {
		beat.Fault = migration.NewFault(migration.FaultOther, "copy", "", errors.New(p.Error), "")
	}
	return beat
}
