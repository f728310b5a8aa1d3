package follow

import (
	"context"
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

// AwaitExact waits until every table's band is closed.
func (f *Follower) AwaitExact(ctx context.Context) error {
	f.nudge()
	return f.board.await(ctx, func() bool {
		return f.board.stream != nil && f.board.tables.Exact == f.board.tables.Total
	})
}

// steadyEvery is how often the latency is looked at.
const steadyEvery = 100 * time.Millisecond

// AwaitSteady waits until the latency has been below a bound for a time without a break. Time that passes before a first
// heartbeat of this run has come back does not count.
func (f *Follower) AwaitSteady(ctx context.Context, below, long time.Duration) error {
	f.board.wait(+1)
	defer f.board.wait(-1)
	f.nudge()
	var since time.Time
	for {
		latency, known := f.measure()
		switch {
		case !known || latency >= below:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		}
		if ended, err := f.board.over(); ended {
			return err
		}
		if !since.IsZero() && time.Since(since) >= long {
			return nil
		}
		if err := wait(ctx, steadyEvery); err != nil {
			return err
		}
	}
}

// Mark writes a marker into the source's log and returns its name. Everything that was committed on the source before is
// in the stream before it. The stream must be running.
func (f *Follower) Mark(ctx context.Context) (string, error) {
	if err := f.board.await(ctx, func() bool { return f.board.stream != nil }); err != nil {
		return "", err
	}
	return f.emit(ctx, kindMarker, f.markers.Add(1))
}

// AwaitMarker waits until the transaction with the marker is durable on the target, and returns the position of its end.
func (f *Follower) AwaitMarker(ctx context.Context, marker string) (migration.LSN, error) {
	var end migration.LSN
	err := f.board.await(ctx, func() bool {
		var passed bool
		end, passed = f.board.markers[marker]
		return passed
	})
	return end, err
}

// nudge asks for a heartbeat at once: its commit lies behind everything that somebody may wait for.
func (f *Follower) nudge() {
	select {
	case f.beating <- struct{}{}:
	default:
	}
}
