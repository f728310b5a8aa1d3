package follow

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	kindHeartbeat = "heartbeat"
	kindMarker    = "marker"

	heartbeatEvery = 10 * time.Second
	// heartbeatAwaited is how often one is sent while somebody waits for the target to catch up.
	heartbeatAwaited = time.Second
	watchEvery       = 5 * time.Second
	leaseEvery       = 5 * time.Second
	controlWithin    = 10 * time.Second
)

// heartbeats measures how far the target is behind, on our own clock where it can. It is safe for concurrent use.
type heartbeats struct {
	mu     sync.Mutex
	began  time.Time
	sent   map[int64]time.Time // on their way
	next   int64
	synced bool          // one came back
	skew   time.Duration // source's clock minus ours
	newest time.Time     // commit time of the newest transaction that is applied, on the source's clock
}

func (h *heartbeats) begin(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.began = now
}

func (h *heartbeats) send(now time.Time) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sent == nil {
		h.sent = map[int64]time.Time{}
	}
	h.next++
	h.sent[h.next] = now
	return h.next
}

// returned forgets a heartbeat and those before it: the stream is in order.
func (h *heartbeats) returned(number int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for sent := range h.sent {
		if sent <= number {
			delete(h.sent, sent)
		}
	}
	h.synced = true
}

func (h *heartbeats) applied(commit time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.newest = commit
}

func (h *heartbeats) clock(source, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.skew = source.Sub(now)
}

// latency is the age of the oldest thing that is known not to be applied. Before the first heartbeat has come back it is
// at least the age of what was applied last.
func (h *heartbeats) latency(pending, now time.Time) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	age := func(commit time.Time) time.Duration { return max(0, now.Add(h.skew).Sub(commit)) }
	var latency time.Duration
	if !pending.IsZero() {
		latency = age(pending)
	}
	for _, at := range h.sent {
		latency = max(latency, now.Sub(at))
	}
	switch {
	case h.synced:
	case !h.newest.IsZero():
		latency = max(latency, age(h.newest))
	case !h.began.IsZero():
		latency = max(latency, now.Sub(h.began))
	}
	return latency, h.synced
}

// beat sends heartbeats: a transaction that writes keeps the slot of an idle database moving, and shows the latency.
func (f *Follower) beat(ctx context.Context) error {
	for {
		number := f.heartbeat.send(time.Now())
		if _, err := f.emit(ctx, kindHeartbeat, number); err != nil {
			return err
		}
		if err := f.awaitBeat(ctx); err != nil {
			return nil //nolint:nilerr // the wait ended with ctx, which is how beating ends
		}
	}
}

// awaitBeat waits for the next heartbeat's time, which comes early when somebody begins to wait.
func (f *Follower) awaitBeat(ctx context.Context) error {
	began := time.Now()
	tick := time.NewTicker(heartbeatAwaited)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.beating:
			return nil
		case <-tick.C:
			if f.board.awaited() || time.Since(began) >= heartbeatEvery {
				return nil
			}
		}
	}
}

// emit survives the end of ctx, because a cancelled query would cost the session that others use.
func (f *Follower) emit(ctx context.Context, kind string, number int64) (string, error) {
	content := fmt.Sprintf("%s/%s/%d/%d", f.config.Spec.ID.Short(), kind, f.lane.Token, number)
	err := f.source.do(ctx, func(ctx context.Context) error {
		_, err := slot.Emit(ctx, f.source.conn, f.source.version, content)
		return err
	})
	return content, f.config.Source.Fault("write "+kind, "", err)
}

// watch looks at the slot, and at the source's clock.
func (f *Follower) watch(ctx context.Context) error {
	meter := slot.NewMeter(f.config.Logger)
	for {
		err := f.source.do(ctx, func(ctx context.Context) error {
			status, err := slot.Inspect(ctx, f.source.conn, f.expected.Slot)
			if err != nil {
				return err
			}
			f.heartbeat.clock(status.Now, time.Now())
			f.board.retained(status, meter.Measure(f.expected.Slot, status, time.Now()))
			return nil
		})
		if err != nil {
			return err
		}
		f.report()
		if wait(ctx, watchEvery) != nil {
			return nil //nolint:nilerr // the wait ended with ctx, which is how watching ends
		}
	}
}

// do runs one short statement on the source's session, alone.
func (c *control) do(ctx context.Context, work func(context.Context) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return errNotRunning
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), controlWithin)
	defer cancel()
	return work(ctx)
}

// keepLease renews the lease and notices when another execution has it.
func (f *Follower) keepLease(ctx context.Context) error {
	l := ledger.Ledger{ID: f.config.Spec.ID, Conn: f.target}
	for {
		if err := l.Renew(ctx, f.config.Run); err != nil {
			return f.config.Target.Fault("renew the lease on", string(l.ID), err)
		}
		if wait(ctx, leaseEvery) != nil {
			return nil //nolint:nilerr // the wait ended with ctx, which is how renewing ends
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// report tells how the stream stands.
func (f *Follower) report() { f.config.Report(f.Status()) }

// Latency is how old the oldest known change is that the target lacks; 0 when it has caught up.
func (f *Follower) Latency() time.Duration {
	latency, _ := f.measure()
	return latency
}

func (f *Follower) measure() (time.Duration, bool) {
	var pending time.Time
	if session := f.board.session(); session != nil {
		pending = session.OldestPending()
	}
	return f.heartbeat.latency(pending, time.Now())
}

// Status is what the last report would say now.
func (f *Follower) Status() migration.Beat {
	beat := f.board.beat()
	latency, _ := f.measure()
	beat.Step, beat.At, beat.Latency = "stream", time.Now(), migration.Duration(latency)
	return beat
}
