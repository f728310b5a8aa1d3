package starter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Stop ends a migration: in incremental it is drained to now, before it is abandoned. It returns when the order is
// durable, with or without a worker; Wait tells the end. An ended migration gives an *EndedError.
func (s *Starter) Stop(ctx context.Context, id migration.ID) error {
	return s.signal(ctx, id, workflows.SignalStop, workflows.Stop{})
}

// Release is Stop, and every trace of the migration goes with it: the rows of its ledger too.
func (s *Starter) Release(ctx context.Context, id migration.ID) error {
	return s.signal(ctx, id, workflows.SignalStop, workflows.Stop{Release: true})
}

// Pause makes the steps stop after what they have in hand. The slot stays, and holds WAL on the source. A migration without
// type incremental cannot pause (*RefusedError).
func (s *Starter) Pause(ctx context.Context, id migration.ID) error {
	spec, err := s.Spec(ctx, id)
	if err != nil {
		return err
	}
	if err := workflows.PauseAllowed(spec); err != nil {
		return &RefusedError{ID: id, Order: workflows.SignalPause, Reason: err.Error()}
	}
	return s.signal(ctx, id, workflows.SignalPause, nil)
}

// Resume goes on after a pause, and tries again what waits for a person. The schema objects named, by title or number, are
// left out from now on, and what needs them.
func (s *Starter) Resume(ctx context.Context, id migration.ID, ignore ...string) error {
	return s.signal(ctx, id, workflows.SignalResume, workflows.Resume{Ignore: ignore})
}

// Recheck runs the precheck again, from now on without the ignorable alerts named.
func (s *Starter) Recheck(ctx context.Context, id migration.ID, ignore []string) error {
	return s.signal(ctx, id, workflows.SignalRecheck, workflows.Recheck{Ignore: ignore})
}

// Cutover moves writes to the target. It returns when the workflow has taken the order; outside incremental it is
// refused with the workflow's sentence. It needs a worker (*AwayError): an order that nobody hears is not kept, lest
// it strike when nobody expects it.
func (s *Starter) Cutover(ctx context.Context, id migration.ID) (migration.CutoverNote, error) {
	var note migration.CutoverNote
	err := s.update(ctx, id, workflows.UpdateCutover, &note)
	return note, err
}

// Retry changes retry windows of a running migration, its outages included; zero keeps. It returns the windows that
// hold from now on.
func (s *Starter) Retry(ctx context.Context, id migration.ID, change migration.RetryWindows) (migration.RetryWindows, error) {
	var windows migration.RetryWindows
	err := s.update(ctx, id, workflows.UpdateRetry, &windows, workflows.Retry{Connection: change.Connection, Other: change.Other})
	return windows, err
}

// Throttle changes rates of a running migration, for all its workers within seconds; what the change does not name stays. It
// returns the rates that hold from now on. A change that makes no sense now is refused (*RefusedError).
func (s *Starter) Throttle(ctx context.Context, id migration.ID, change migration.ThrottleChange) (migration.Throttle, error) {
	var rates migration.Throttle
	err := s.update(ctx, id, workflows.UpdateThrottle, &rates, change)
	return rates, err
}

func (s *Starter) signal(ctx context.Context, id migration.ID, name string, argument any) error {
	err := s.client.SignalWorkflow(ctx, string(id), "", name, argument)
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return s.ended(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", name, id, err)
	}
	return nil
}

// ended tells a migration that has ended from one that never was.
func (s *Starter) ended(ctx context.Context, id migration.ID) error {
	described, err := s.describe(ctx, id)
	if err != nil {
		return err
	}
	state := closedState(described.GetWorkflowExecutionInfo().GetStatus())
	if report, _ := s.result(ctx, id); report.State != "" {
		state = report.State
	}
	return &EndedError{ID: id, State: string(state)}
}

// orderTimeout is longer than the five seconds for which Temporal keeps a workflow for the worker that had it last, in case
// that one is dead and others are not.
const orderTimeout = 12 * time.Second

func (s *Starter) update(ctx context.Context, id migration.ID, name string, out any, arguments ...any) error {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	handle, err := s.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: string(id), UpdateName: name, Args: arguments, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(ctx, out)
	}
	var refused *temporal.ApplicationError
	var missing *serviceerror.NotFound
	var late *client.WorkflowUpdateServiceTimeoutOrCanceledError // the service may notice before our own clock
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return &RefusedError{ID: id, Order: name, Reason: refused.Message()}
	case errors.As(err, &missing):
		return s.ended(context.WithoutCancel(ctx), id)
	case ctx.Err() != nil || errors.As(err, &late):
		return s.away(context.WithoutCancel(ctx), id)
	}
	return fmt.Errorf("%s %s: %w", name, id, err)
}

func (s *Starter) away(ctx context.Context, id migration.ID) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	described, err := s.describe(ctx, id)
	if err != nil {
		return err
	}
	return &AwayError{ID: id, TaskQueue: described.GetWorkflowExecutionInfo().GetTaskQueue()}
}

// RefusedError says why an order makes no sense now.
type RefusedError struct {
	ID            migration.ID
	Order, Reason string
}

// Error is one sentence.
func (e *RefusedError) Error() string { return fmt.Sprintf("%s %s: %s", e.Order, e.ID, e.Reason) }
