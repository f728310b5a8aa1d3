package main

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/workflows/migration"
)

// cutoverPause is the time between cutovers that this run orders, should one be given up.
const cutoverPause = 30 * time.Second

// orderCutover watches for the moment that cutover.mode auto waits for, where the workflow began with mode manual and
// would wait for a person. The gates of the cutover itself are checked by the workflow's steps.
func (r *runner) orderCutover(ctx context.Context) func(migration.Status) {
	var steadySince, ordered time.Time
	return func(status migration.Status) {
		now := time.Now()
		if !r.orders || status.Phase != migration.PhaseIncremental || !status.CaughtUp || status.Paused {
			steadySince = time.Time{}
			return
		}
		if steadySince.IsZero() {
			steadySince = now
		}
		if now.Sub(steadySince) < r.spec.Cutover.SteadyFor.D() || now.Sub(ordered) < cutoverPause {
			return
		}
		ordered = now
		if _, err := r.service.Cutover(ctx, r.spec.ID); err != nil {
			r.logger.Warn("cutover was not taken", zap.Error(err))
		}
	}
}
