package starter

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Kick fails the attempts that a dead worker left started, and frees the workflow's own tasks from that worker, so that
// the next worker goes on at once instead of after a heartbeat time-out and the time-out of a sticky queue. The caller must know that no worker of this migration lives: an attempt that is still at work
// would get a second beside it, which only the fencing in the ledger keeps from writing.
func (s *Starter) Kick(ctx context.Context, namespace string, id migration.ID) error {
	described, err := s.describe(ctx, id)
	if err != nil {
		return err
	}
	_, err = s.client.WorkflowService().ResetStickyTaskQueue(ctx, &workflowservice.ResetStickyTaskQueueRequest{
		Namespace: namespace, Execution: described.GetWorkflowExecutionInfo().GetExecution(),
	})
	if err != nil {
		return fmt.Errorf("kick %s: %w", id, err)
	}
	gone := temporal.NewApplicationErrorWithOptions("the worker is gone", string(migration.FaultShutdown),
		temporal.ApplicationErrorOptions{NextRetryDelay: time.Millisecond, Category: temporal.ApplicationErrorCategoryBenign})
	for _, activity := range described.GetPendingActivities() {
		state := activity.GetState()
		if state != enumspb.PENDING_ACTIVITY_STATE_STARTED && state != enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED {
			continue
		}
		err := s.client.CompleteActivityByID(ctx, namespace, string(id), "", activity.GetActivityId(), nil, gone)
		var over *serviceerror.NotFound
		if err != nil && !errors.As(err, &over) {
			return fmt.Errorf("kick %s of %s: %w", activity.GetActivityType().GetName(), id, err)
		}
	}
	return nil
}
