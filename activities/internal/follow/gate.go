package follow

import (
	"context"
	"time"

	"github.com/pgdts/pgdts/activities/internal/stream"
	"github.com/pgdts/pgdts/activities/internal/wal"
)

// batchTime is how much of a capped rate one batch takes: a larger one would wait for long and then burst.
const batchTime = 250 * time.Millisecond

// Hurry lets all changes through from now on: while writers wait behind a fence, the rate is no longer kept.
func (f *Follower) Hurry() { f.hurry() }

func (f *Follower) ungated() bool { return f.config.Gate == nil || f.hurrying.Err() != nil }

// limits makes batches that suit the rate.
func (f *Follower) limits() stream.Limits {
	limits := stream.Limits{Changes: batchChanges, Bytes: batchBytes, Wait: batchWait}
	if f.ungated() {
		return limits
	}
	if rate := f.config.Gate.RowsPerSecond(); rate > 0 {
		limits.Changes = min(limits.Changes, max(1, int(rate*batchTime.Seconds())))
	}
	if rate := f.config.Gate.BytesPerSecond(); rate > 0 {
		limits.Bytes = min(limits.Bytes, max(1, int(rate*batchTime.Seconds())))
	}
	return limits
}

// ahead lets no backlog be read ahead of the slot where a rate would keep it waiting in the source's memory.
func (f *Follower) ahead() int64 {
	if f.ungated() || f.config.Gate.RowsPerSecond() == 0 && f.config.Gate.BytesPerSecond() == 0 {
		return f.aheadBytes
	}
	return -1
}

// pass waits for the gate. Heartbeats, the lease and the connection go on meanwhile, and the latency shows the wait.
func (f *Follower) pass(ctx context.Context, transactions []wal.Transaction) error {
	if f.ungated() {
		return nil
	}
	rows, bytes := weigh(transactions)
	if rows == 0 {
		return nil // heartbeats and markers are ours
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.hurrying, cancel)()
	err := f.config.Gate.Pass(waiting, rows, bytes)
	if ctx.Err() == nil {
		return nil // passed, or told to hurry
	}
	return err
}

// weigh counts rows, and the bytes of their values as the source sent them.
func weigh(transactions []wal.Transaction) (rows, bytes int64) {
	for i := range transactions {
		for _, change := range transactions[i].Changes {
			if change.Op == wal.Message {
				continue
			}
			rows++
			for _, value := range change.Old {
				bytes += int64(len(value.Data))
			}
			for _, value := range change.New {
				bytes += int64(len(value.Data))
			}
		}
	}
	return rows, bytes
}
