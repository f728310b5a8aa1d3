package activities

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// beatInterval is how often the last progress is repeated to Temporal; the SDK throttles what it sends.
const beatInterval = 2 * time.Second

// attempt runs the work of one step: it repeats progress as heartbeats, ends the work when the worker leaves, and turns
// what went wrong into what the workflow understands.
func attempt[Out any](ctx context.Context, a *Activities, name string, in step.In, work func(context.Context, *session) (Out, error)) (Out, error) {
	var zero Out
	pulse := newPulse(name, a.Observe)
	pulse.last.Migration = in.Spec.ID
	session, err := a.session(name, in, pulse.report)
	if err != nil {
		return zero, pulse.translate(ctx, err)
	}
	// A frozen worker may wake with a step that was given up, before it has touched anything: this heartbeat waits for the answer,
	// and ends ctx where another attempt has the step.
	activity.RecordHeartbeat(ctx, pulse.last)
	if ctx.Err() != nil {
		return zero, pulse.translate(ctx, ctx.Err())
	}
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() { pulse.beat(ctx, done) })
	background.Go(func() { endWithWorker(ctx, cancel, done) })
	out, err := work(working, session)
	close(done)
	background.Wait()
	// A stream ends without an error when it is cancelled. If the worker did that, its goal is not reached, and the workflow
	// would go on as if it were: to a cutover that nobody ordered.
	cutShort := working.Err() != nil && ctx.Err() == nil
	if err == nil && !cutShort {
		return out, nil
	}
	err = pulse.translate(ctx, err)
	session.logger.Info("attempt ended", zap.Int32(migration.KeyAttempt, activity.GetInfo(ctx).Attempt), zap.Error(err))
	return out, err
}

// endWithWorker cancels the work when the worker begins to stop, so that a batch in hand is finished and the next
// worker goes on at once instead of after a heartbeat time-out.
func endWithWorker(ctx context.Context, cancel context.CancelFunc, done <-chan struct{}) {
	select {
	case <-activity.GetWorkerStopChannel(ctx):
		cancel()
	case <-done:
	}
}

// pulse remembers what the engine last reported, and whether anything moved.
type pulse struct {
	mu       sync.Mutex
	started  time.Time
	first    *migration.Beat
	last     migration.Beat
	caughtUp time.Time // since when the stream's latency has been below a second
	observe  func(migration.Beat)
	window   window
}

func newPulse(name string, observe func(migration.Beat)) *pulse {
	return &pulse{observe: observe, started: time.Now(), last: migration.Beat{Step: name, At: time.Now()}}
}

func (p *pulse) report(beat migration.Beat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	beat.Step, beat.Migration = p.last.Step, p.last.Migration
	beat.At = time.Now()
	beat.Rates = p.window.rates(beat)
	if p.first == nil {
		p.first = &beat
	}
	switch {
	case beat.LSN == nil || beat.Latency.D() >= time.Second:
		p.caughtUp = time.Time{}
	case p.caughtUp.IsZero():
		p.caughtUp = beat.At
	}
	p.last = beat
	if p.observe != nil {
		p.observe(beat)
	}
}

func (p *pulse) beat(ctx context.Context, done <-chan struct{}) {
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	for {
		p.mu.Lock()
		last := p.last
		p.mu.Unlock()
		activity.RecordHeartbeat(ctx, last)
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// progress tells whether this attempt moved something: counters of the engine, the applied position, or, for a stream
// on an idle source, a minute of being caught up.
func (p *pulse) progress() step.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	progress := step.Progress{Ran: migration.Duration(time.Since(p.started).Round(time.Millisecond))}
	if p.first != nil {
		first, last := *p.first, p.last
		progress.Made = last.Done > first.Done || last.Rows > first.Rows || last.Changes > first.Changes ||
			last.LSN != nil && first.LSN != nil && last.LSN.Applied > first.LSN.Applied
	}
	if !p.caughtUp.IsZero() && time.Since(p.caughtUp) >= time.Minute {
		progress.Made = true
	}
	return progress
}

// translate is the only place that builds an error for Temporal: its type is the fault's kind, by which the step's
// retry policy and the workflow decide; its details carry fault and progress.
func (p *pulse) translate(ctx context.Context, err error) error {
	select {
	case <-activity.GetWorkerStopChannel(ctx):
		return handOver("the worker is leaving")
	default:
	}
	fault, isFault := migration.AsFault(err)
	if ctx.Err() != nil && !isFault {
		cause := context.Cause(ctx)
		if temporal.IsCanceledError(cause) || errors.Is(cause, activity.ErrActivityPaused) || errors.Is(cause, activity.ErrActivityReset) {
			return cause
		}
		return handOver("contact with Temporal was lost")
	}
	if !isFault && errors.Is(err, context.Canceled) {
		return err
	}
	if !isFault {
		fault, _ = migration.AsFault(pg.Fault("", "", "", err))
	}
	return temporal.NewApplicationErrorWithOptions(fault.Error(), string(fault.Kind),
		temporal.ApplicationErrorOptions{Details: []any{fault, p.progress()}})
}

// handOver ends an attempt that did nothing wrong: Temporal schedules the next one at once.
func handOver(why string) error {
	return temporal.NewApplicationErrorWithOptions(why, string(migration.FaultShutdown),
		temporal.ApplicationErrorOptions{NextRetryDelay: time.Millisecond, Category: temporal.ApplicationErrorCategoryBenign})
}
