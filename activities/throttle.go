package activities

import (
	"context"

	"github.com/pgdts/pgdts/activities/internal/bulk"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// Throttle records rates. A ledger that is not made yet is tried again by Temporal.
func (a *Activities) Throttle(ctx context.Context, in step.ThrottleIn) (struct{}, error) {
	return attempt(ctx, a, "throttle", in.In, func(ctx context.Context, s *session) (struct{}, error) {
		return struct{}{}, s.withLedger(ctx, s.Spec.ID.Session("throttle", 0), func(l ledger.Ledger) error {
			return s.target.Fault("record the rates of", string(s.Spec.ID), l.SetThrottle(ctx, in.Throttle))
		})
	})
}

// gated describes a copy that keeps to the rates of the ledger. Whoever calls it calls leave in the end.
func (s *session) gated(ctx context.Context) (config bulk.Config, leave func(), err error) {
	config = s.bulk()
	config.Gate, leave, err = s.gates.Enter(ctx, s.target, s.Spec.ID, migration.TypeFull, s.logger)
	return config, leave, err
}

// copied is what all lanes together have copied.
func (s *session) copied(ctx context.Context) (all migration.Amounts, err error) {
	err = s.withLedger(ctx, s.Spec.ID.Session("report", 0), func(l ledger.Ledger) error {
		all, err = l.Copied(ctx)
		return s.target.Fault("read ledger of", string(s.Spec.ID), err)
	})
	return all, err
}
