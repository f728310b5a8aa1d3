package cutover

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/workflows/migration"
)

// drain waits until all that was committed before the fence is durable on the target.
func (a *attempt) drain(ctx context.Context) error {
	end, changes, err := a.toMarker(ctx)
	if err != nil {
		return err
	}
	a.evidence.Changes = changes
	a.Logger.Info("drained the source", zap.Stringer(migration.KeyLSN, end))
	return failpoint.Hit(failpoint.CutoverDrained)
}

// toMarker writes a marker and waits until the target has passed it. The count of changes is what the ledger says then,
// which commits together with the changes.
func (a *attempt) toMarker(ctx context.Context) (migration.LSN, int64, error) {
	a.at(stepMarker)
	a.say("", 0, 0)
	marker, err := a.follower.Mark(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := failpoint.Hit(failpoint.CutoverMarked); err != nil {
		return 0, 0, err
	}
	a.at(stepDrain)
	a.say("", 0, 0)
	end, err := a.follower.AwaitMarker(ctx, marker)
	if err != nil {
		return 0, 0, err
	}
	known, err := a.ledger().Read(ctx)
	return end, known.Changes, a.Target.Fault("read ledger", string(a.Spec.ID), err)
}

// drainAgain makes sure that nothing was written since the first marker: then something has passed the fence, and what
// was compared says nothing.
func (a *attempt) drainAgain(ctx context.Context) error {
	_, changes, err := a.toMarker(ctx)
	if err != nil {
		return err
	}
	if more := changes - a.evidence.Changes; more != 0 {
		return notReady("cut over", string(a.Spec.ID), fmt.Sprintf("%d changes were made on the source behind the fence", more),
			"stop the application before the cutover, or use cutover.fence: lock")
	}
	return nil
}
