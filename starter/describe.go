package starter

import (
	"context"
	"errors"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
)

// describe asks Temporal itself, which answers without a worker.
func (s *Starter) describe(ctx context.Context, id migration.ID) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	described, err := s.client.DescribeWorkflowExecution(ctx, string(id), "")
	if err != nil {
		return nil, known(id, "look up", err)
	}
	return described, nil
}

// known gives the errors of Temporal that mean something to a person their names.
func known(id migration.ID, op string, err error) error {
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return &UnknownError{ID: string(id)}
	}
	return fmt.Errorf("%s %s: %w", op, id, err)
}

func running(info *workflowpb.WorkflowExecutionInfo) bool {
	return info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
}

// closedState is the state of an execution that is not running, as far as Temporal knows it.
func closedState(status enumspb.WorkflowExecutionStatus) migration.Phase {
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		return migration.PhaseFinished
	}
	return migration.PhaseFailed
}

// Ended tells whether a migration has ended, from Temporal alone; one that it does not know gives an *UnknownError.
func (s *Starter) Ended(ctx context.Context, id migration.ID) (bool, error) {
	described, err := s.describe(ctx, id)
	if err != nil {
		return false, err
	}
	return !running(described.GetWorkflowExecutionInfo()), nil
}

// Spec is what the migration was started with. It needs no worker.
func (s *Starter) Spec(ctx context.Context, id migration.ID) (migration.Spec, error) {
	events := s.client.GetWorkflowHistory(ctx, string(id), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	first, err := events.Next()
	if err != nil {
		return migration.Spec{}, known(id, "read definition of", err)
	}
	var in workflows.Input
	payloads := first.GetWorkflowExecutionStartedEventAttributes().GetInput()
	if err := converter.GetDefaultDataConverter().FromPayloads(payloads, &in); err != nil {
		return migration.Spec{}, fmt.Errorf("read definition of %s: %w", id, err)
	}
	return in.Spec, nil
}

// beatOf reads a heartbeat; steps that have not reported yet have none.
func beatOf(details *commonpb.Payloads) (migration.Beat, bool) {
	var beat migration.Beat
	if len(details.GetPayloads()) == 0 || converter.GetDefaultDataConverter().FromPayloads(details, &beat) != nil {
		return beat, false
	}
	return beat, true
}
