package follow

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	batchChanges = 100_000
	batchBytes   = 16 << 20
	batchWait    = 200 * time.Millisecond
	// idleEvery is how often the position of an idle source is recorded, unless somebody waits for it.
	idleEvery = 10 * time.Second
	// inHandWithin bounds the end of a batch after ctx has ended.
	inHandWithin = 20 * time.Second
)

// pump moves batches until ctx ends. The batch in hand is finished, since half of it would be rolled back and read again,
// unless applying ends, by stop or else.
func (f *Follower) pump(ctx, applying context.Context, stop func()) error {
	defer context.AfterFunc(ctx, func() { time.AfterFunc(inHandWithin, stop) })()
	for ctx.Err() == nil {
		batch, err := f.stream.Next(ctx, f.limits())
		if err != nil {
			return err
		}
		switch {
		case len(batch.Transactions) > 0:
			if err = f.pass(ctx, batch.Transactions); err != nil {
				return nil // ctx has ended; nothing of the batch is applied, and it comes again
			}
			err = f.apply(applying, batch.Transactions)
		case batch.Idle > f.applier.Position():
			err = f.idle(applying, batch.Idle, batch.Asked)
		}
		if err != nil {
			return f.config.Target.Fault("apply changes", "", err)
		}
	}
	return nil
}

func (f *Follower) apply(ctx context.Context, transactions []wal.Transaction) error {
	began := time.Now()
	if err := f.applier.Apply(ctx, transactions); err != nil {
		return err
	}
	last := transactions[len(transactions)-1]
	if !last.Last {
		return nil
	}
	if err := failpoint.Hit(failpoint.ApplyAfterCommit); err != nil {
		return err
	}
	f.stream.Confirm(f.applier.Position())
	f.passed(transactions)
	f.config.Logger.Debug("applied changes", zap.Int("transactions", len(transactions)),
		zap.Stringer(migration.KeyLSN, last.End), zap.Duration(migration.KeyElapsed, time.Since(began)))
	f.report()
	return nil
}

// idle records the position first (I2), unless the last record is recent and nobody waits for a newer one.
func (f *Follower) idle(ctx context.Context, position migration.LSN, asked bool) error {
	if !asked && !f.board.awaited() && time.Since(f.idleAt) < idleEvery {
		return nil
	}
	if err := f.applier.Idle(ctx, position); err != nil {
		return err
	}
	f.idleAt = time.Now()
	f.stream.Confirm(f.applier.Position())
	f.board.moved(f.applier.Position(), f.applier.Tables(), f.applier.Stats().Changes)
	f.report()
	return nil
}

// passed publishes what the batch has brought: position, counts, and messages of ours.
func (f *Follower) passed(transactions []wal.Transaction) {
	for i := range transactions {
		for _, change := range transactions[i].Changes {
			if change.Op == wal.Message {
				f.returned(string(change.Content), transactions[i].End)
			}
		}
	}
	f.heartbeat.applied(transactions[len(transactions)-1].Time)
	f.board.moved(f.applier.Position(), f.applier.Tables(), f.applier.Stats().Changes)
}

// returned notes a message. Those of other migrations reach this stream too, and heartbeats of earlier runs are no news.
func (f *Follower) returned(content string, end migration.LSN) {
	parts := strings.Split(content, "/") // as emit writes them
	if len(parts) != 4 || parts[0] != f.config.Spec.ID.Short() {
		return
	}
	switch parts[1] {
	case kindMarker:
		f.board.marked(content, end)
	case kindHeartbeat:
		number, err := strconv.ParseInt(parts[3], 10, 64)
		if err == nil && parts[2] == strconv.FormatInt(f.lane.Token, 10) {
			f.heartbeat.returned(number)
		}
	}
}
