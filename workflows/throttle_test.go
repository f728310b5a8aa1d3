package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdk "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/activity"

	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// answer keeps what became of an Update.
type answer struct {
	refused, failed error
	rates           any
}

func (a *answer) Accept()          {}
func (a *answer) Reject(err error) { a.refused = err }
func (a *answer) Complete(result any, err error) {
	a.rates, a.failed = result, err
}

func (f *fake) throttled(delay time.Duration, change any) *answer {
	a := &answer{}
	f.after(delay, func() { f.UpdateWorkflow(workflows.UpdateThrottle, "", a, change) })
	return a
}

func fullRows(rate float64) migration.ThrottleChange {
	return migration.ThrottleChange{Full: &migration.FullThrottleChange{RowsPerSecond: &rate}}
}

func streamRows(rate float64) migration.ThrottleChange {
	return migration.ThrottleChange{Incremental: &migration.IncrementalThrottleChange{RowsPerSecond: &rate}}
}

func TestThrottleReachesTheLedgerAndStepsThatBeginLater(t *testing.T) {
	f := newFake(t)
	f.spec.Throttle.Full = migration.FullThrottle{RowsPerSecond: 10, MegabytesPerSecond: 3}
	copying := true
	f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) {
		if copying {
			return step.CopyOut{}, activity.ErrResultPending
		}
		return step.CopyOut{}, nil
	}
	var told []migration.Throttle
	f.throttle = func(_ context.Context, in step.ThrottleIn) (struct{}, error) {
		told = append(told, in.Throttle)
		if len(told) == 1 {
			return struct{}{}, errors.New("the target is away")
		}
		return struct{}{}, nil
	}
	one := f.throttled(time.Minute, fullRows(0))
	f.after(2*time.Minute, func() {
		want := migration.Throttle{Full: migration.FullThrottle{MegabytesPerSecond: 3}}
		require.NoError(t, one.refused)
		require.Equal(t, want, one.rates)
		require.Equal(t, []migration.Throttle{want, want}, told, "tried again until the ledger knows it")
		require.Contains(t, f.status().Actions, "throttle")
		copying = false
	})
	f.signal(3*time.Minute, workflows.SignalPause, nil) // the copy's steps end and begin again
	f.signal(4*time.Minute, workflows.SignalResume, nil)
	f.stream = func(ctx context.Context, in step.StreamIn) (step.StreamOut, error) {
		require.Equal(t, 3.0, in.Spec.Throttle.Full.MegabytesPerSecond)
		require.Zero(t, in.Spec.Throttle.Full.RowsPerSecond)
		return untilCancelled(ctx, in)
	}
	late := f.throttled(time.Hour, fullRows(5))
	f.signal(2*time.Hour, workflows.SignalThrottle, streamRows(7))
	f.after(3*time.Hour, func() {
		require.ErrorContains(t, late.refused, "the copy is done")
		require.Equal(t, 7.0, told[len(told)-1].Incremental.RowsPerSecond)
	})
	f.signal(4*time.Hour, workflows.SignalStop, nil)
	_, err := f.run()
	require.NoError(t, err)
	require.Len(t, told, 3)
}

func TestThrottleThatMakesNoSenseIsRefusedWithASentence(t *testing.T) {
	f := newFake(t)
	f.spec.Types = []migration.Type{migration.TypeSchema, migration.TypeFull}
	f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) {
		return step.CopyOut{}, activity.ErrResultPending
	}
	f.throttle = func(context.Context, step.ThrottleIn) (struct{}, error) {
		t.Error("told the ledger of what was refused")
		return struct{}{}, nil
	}
	none := f.throttled(time.Minute, migration.ThrottleChange{})
	negative := f.throttled(time.Minute, fullRows(-1))
	lacking := f.throttled(time.Minute, streamRows(0))
	f.signal(time.Minute, workflows.SignalThrottle, fullRows(-1))
	f.signal(time.Hour, workflows.SignalStop, nil)
	_, err := f.run()
	require.NoError(t, err)
	require.ErrorContains(t, none.refused, "name a rate")
	require.ErrorContains(t, negative.refused, "throttle.full.rowsPerSecond -1")
	require.ErrorContains(t, lacking.refused, "without type incremental applies no changes")
}

func TestThrottleBeforeThereIsALedgerIsWrittenByPrepare(t *testing.T) {
	f := newFake(t)
	f.spec.Class = migration.ClassSmall
	checked := false
	f.precheck = func(context.Context, step.PrecheckIn) (migration.CheckResult, error) {
		if !checked {
			return blockedCheck(migration.ItemFailed), nil
		}
		return migration.CheckResult{}, nil
	}
	early := f.throttled(time.Minute, streamRows(0))
	f.prepare = func(_ context.Context, in step.In) (step.PrepareOut, error) {
		require.Zero(t, in.Spec.Throttle, "the class does not bring back what was taken away")
		return step.PrepareOut{Slot: "s"}, nil
	}
	f.throttle = func(context.Context, step.ThrottleIn) (struct{}, error) {
		t.Error("told a ledger that is not there")
		return struct{}{}, nil
	}
	f.after(2*time.Minute, func() { checked = true })
	f.signal(3*time.Minute, workflows.SignalRecheck, nil)
	f.signal(time.Hour, workflows.SignalStop, nil)
	_, err := f.run()
	require.NoError(t, err)
	require.NoError(t, early.refused)
}

// TestPageOfTheUITellsWhatHolds: it is written by the workflow's own events, not by heartbeats.
func TestPageOfTheUITellsWhatHolds(t *testing.T) {
	f := newFake(t)
	f.spec.Throttle.Full.MegabytesPerSecond = 20
	f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) {
		return step.CopyOut{}, activity.ErrResultPending
	}
	page := func() string {
		value, err := f.QueryWorkflow("__temporal_workflow_metadata")
		require.NoError(t, err)
		var metadata sdk.WorkflowMetadata
		require.NoError(t, value.Get(&metadata))
		return metadata.GetCurrentDetails()
	}
	f.after(time.Minute, func() {
		require.Contains(t, page(), "phase **copy**")
		require.Contains(t, page(), "- copy: running since ")
		require.Contains(t, page(), "- schema: done in 0s")
		require.Contains(t, page(), "Throttle: copy 20 MB/s\n")
		require.Contains(t, page(), "`pgdts watch "+f.spec.ID.Short()+"`")
	})
	f.throttled(2*time.Minute, fullRows(500))
	f.after(3*time.Minute, func() { require.Contains(t, page(), "Throttle: copy 20 MB/s, 500 rows/s\n") })
	f.signal(time.Hour, workflows.SignalStop, nil)
	_, _ = f.run() // a stop before incremental is reported as it is
}
