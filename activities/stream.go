package activities

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/follow"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// steadyLatency is the latency below which a stream counts as steady: a gate of the cutover.
const steadyLatency = 5 * time.Second

// stream applies changes until the goal is reached or the step is cancelled; both return where it stands.
func stream(ctx context.Context, s *session, goal step.StreamGoal) (step.StreamOut, error) {
	gate, leave, err := s.gates.Enter(ctx, s.target, s.Spec.ID, migration.TypeIncremental, s.logger)
	if err != nil {
		return step.StreamOut{}, err
	}
	defer leave()
	if goal == step.UntilExact {
		if err := endLanes(ctx, s); err != nil {
			return step.StreamOut{}, err
		}
	}
	f := follow.New(follow.Config{
		Source: s.source, Target: s.target, Spec: s.Spec, Run: s.Run, Report: s.report, Logger: s.logger, Gate: gate,
		FollowDDL: true, FollowFailover: true,
	})
	if goal == step.Held {
		err := f.Hold(ctx)
		return position(f, false), err
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	var followErr, goalErr error
	group.Go(func() error { // ends with following, or a fault
		followErr = f.Run(following)
		stop()
		return nil
	})
	group.Go(func() error { // ends with the goal, or following
		goalErr = reach(following, s, f, goal)
		stop()
		return nil
	})
	_ = group.Wait()
	if followErr != nil {
		return step.StreamOut{}, followErr
	}
	if ctx.Err() != nil {
		return position(f, false), nil
	}
	return position(f, goalErr == nil), goalErr
}

func reach(ctx context.Context, s *session, f *follow.Follower, goal step.StreamGoal) error {
	switch goal {
	case step.UntilExact:
		return f.AwaitExact(ctx)
	case step.UntilSteady:
		return f.AwaitSteady(ctx, steadyLatency, s.Spec.Cutover.SteadyFor.D())
	case step.UntilMarker:
		marker, err := f.Mark(ctx)
		if err != nil {
			return err
		}
		_, err = f.AwaitMarker(ctx, marker)
		return err
	case step.UntilCancelled, step.Held: // no goal but the end of ctx
	}
	<-ctx.Done()
	return nil
}

func position(f *follow.Follower, reached bool) step.StreamOut {
	beat := f.Status()
	out := step.StreamOut{Reached: reached, Changes: beat.Changes}
	if beat.LSN != nil {
		out.Applied = beat.LSN.Applied
	}
	return out
}

// watch looks after the slot while nothing is read from it; where there is none, after the lease.
func watch(ctx context.Context, s *session) (struct{}, error) {
	if !s.Spec.Has(migration.TypeIncremental) {
		return struct{}{}, s.keepLease(ctx)
	}
	return struct{}{}, slot.Watch(ctx, slot.WatchConfig{
		Source: s.source, Target: s.target, ID: s.Spec.ID, Run: s.Run, Logger: s.logger,
	}, s.report)
}

// renewEvery is far below the time of a lease.
const renewEvery = 5 * time.Second

// keepLease renews the lease until ctx ends: another host must not take over what is at work.
func (s *session) keepLease(ctx context.Context) error {
	err := s.withLedger(ctx, s.Spec.ID.Session("watch", 0), func(l ledger.Ledger) error {
		for {
			if err := l.Renew(ctx, s.Run); err != nil {
				return s.target.Fault("renew the lease on", string(s.Spec.ID), err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(renewEvery):
			}
		}
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // what fails because ctx has ended is the end that was asked for
	}
	return err
}
