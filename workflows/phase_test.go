package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

func kindOf(t *testing.T, err error) migration.FaultKind {
	t.Helper()
	var application *temporal.ApplicationError
	require.ErrorAs(t, err, &application)
	return migration.FaultKind(application.Type())
}

func blockedCheck(state migration.ItemState) migration.CheckResult {
	return migration.NewCheckResult([]migration.Item{{Code: "WAL_LEVEL", State: state, Found: "wal_level is replica", Ignorable: state == migration.ItemAlert}}, nil)
}

func TestFailedPrecheckEndsAtOnceAndTouchesNothing(t *testing.T) {
	f := newFake(t)
	f.spec.Precheck.OnFailure = "fail"
	f.precheck = func(context.Context, step.PrecheckIn) (migration.CheckResult, error) {
		return blockedCheck(migration.ItemFailed), nil
	}
	_, err := f.run()
	require.Equal(t, migration.FaultPrecheck, kindOf(t, err))
	require.Empty(t, f.cleanups, "nothing was prepared, so nothing is cleaned")
}

func TestFailedPrecheckWaitsForRecheck(t *testing.T) {
	f := newFake(t)
	f.precheck = func(_ context.Context, in step.PrecheckIn) (migration.CheckResult, error) {
		check := blockedCheck(migration.ItemAlert)
		return migration.NewCheckResult(check.Items, in.Ignore), nil
	}
	f.after(time.Minute, func() {
		require.Equal(t, "attention", f.status().State)
		require.Contains(t, f.status().Actions, "recheck")
	})
	f.signal(2*time.Minute, workflows.SignalRecheck, workflows.Recheck{Ignore: []string{"WAL_LEVEL"}})
	f.signal(time.Hour, workflows.SignalCutover, nil)
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseFinished, report.State)
}

func TestStopInPrecheckLeavesNothing(t *testing.T) {
	f := newFake(t)
	f.precheck = func(context.Context, step.PrecheckIn) (migration.CheckResult, error) {
		return blockedCheck(migration.ItemFailed), nil
	}
	f.signal(time.Minute, workflows.SignalStop, nil)
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseStopped, report.State)
	require.NotNil(t, report.Failure, "stopped before it was complete")
}

// A stop in every phase: before incremental it abandons, in incremental it drains to a marker and settles.
func TestStopInEveryPhase(t *testing.T) {
	pending := func(f *fake, phase migration.Phase) {
		switch phase {
		case migration.PhasePrepare:
			f.prepare = func(context.Context, step.In) (step.PrepareOut, error) {
				return step.PrepareOut{}, activity.ErrResultPending
			}
		case migration.PhaseSchema:
			f.schema = func(context.Context, step.SchemaIn) (step.SchemaOut, error) {
				return step.SchemaOut{}, activity.ErrResultPending
			}
		case migration.PhaseCopy:
			f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) {
				return step.CopyOut{}, activity.ErrResultPending
			}
		case migration.PhaseCatchup:
			f.stream = func(context.Context, step.StreamIn) (step.StreamOut, error) {
				return step.StreamOut{}, activity.ErrResultPending
			}
		case migration.PhaseConstraints:
			f.constraints = func(context.Context, step.SchemaIn) (step.SchemaOut, error) {
				return step.SchemaOut{}, activity.ErrResultPending
			}
		default: // incremental waits for a person by itself
		}
	}
	for _, phase := range migration.Phases[1:7] {
		t.Run(string(phase), func(t *testing.T) {
			f := newFake(t)
			pending(f, phase)
			f.after(time.Hour, func() { require.Equal(t, phase, f.status().Phase) })
			f.signal(time.Hour+time.Second, workflows.SignalStop, nil)
			report, err := f.run()
			require.NoError(t, err)
			require.Equal(t, migration.PhaseStopped, report.State)
			require.Len(t, f.cleanups, 1)
			drained := phase == migration.PhaseIncremental
			require.Equal(t, drained, report.Failure == nil)
			if drained {
				require.Equal(t, step.UntilMarker, f.goals[len(f.goals)-1])
				require.Equal(t, 4, report.Sequences)
			}
		})
	}
}

// What a step that was left behind says later is no cause of the end.
func TestTheCauseOfTheEndOutlivesWhatOtherStepsSay(t *testing.T) {
	f := newFake(t)
	var telling, cleaning []byte
	f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) {
		return step.CopyOut{}, activity.ErrResultPending
	}
	f.throttle = func(ctx context.Context, _ step.ThrottleIn) (struct{}, error) {
		telling = activity.GetInfo(ctx).TaskToken
		return struct{}{}, activity.ErrResultPending
	}
	f.cleanup = func(ctx context.Context, _ step.CleanupIn) (step.CleanupOut, error) {
		cleaning = activity.GetInfo(ctx).TaskToken
		return step.CleanupOut{}, activity.ErrResultPending
	}
	f.signal(time.Minute, workflows.SignalThrottle, fullRows(7))
	f.signal(2*time.Minute, workflows.SignalStop, nil)
	f.after(3*time.Minute, func() {
		require.NoError(t, f.CompleteActivity(telling, nil, fault(migration.FaultInvalid, step.Progress{})))
	})
	f.after(4*time.Minute, func() {
		require.Equal(t, migration.FaultStopped, f.status().LastError.Kind)
		require.NoError(t, f.CompleteActivity(cleaning, step.CleanupOut{}, nil))
	})
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.FaultStopped, report.Failure.Kind)
	require.Equal(t, migration.FaultStopped, f.status().LastError.Kind)
}

func TestReleaseRemovesTheLedgerToo(t *testing.T) {
	f := newFake(t)
	f.signal(time.Hour, workflows.SignalStop, workflows.Stop{Release: true})
	_, err := f.run()
	require.NoError(t, err)
	require.Len(t, f.cleanups, 2)
	require.True(t, f.cleanups[1].Ledger)
}

func TestCancelMeansStop(t *testing.T) {
	f := newFake(t)
	f.after(time.Hour, f.CancelWorkflow)
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseStopped, report.State)
	require.Len(t, f.cleanups, 1)
}

func TestCutoverIsRefusedBeforeIncrementalAndSaysWhen(t *testing.T) {
	f := newFake(t)
	f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) {
		return step.CopyOut{}, activity.ErrResultPending
	}
	f.signal(time.Minute, workflows.SignalCutover, nil)
	f.after(2*time.Minute, func() {
		require.Equal(t, "refused", f.status().Cutover.Step)
		require.Contains(t, f.status().Cutover.Message, "incremental")
	})
	f.signal(time.Hour, workflows.SignalStop, nil)
	_, err := f.run()
	require.NoError(t, err)
}

func TestCutoverGivenUpGoesBackToIncremental(t *testing.T) {
	f := newFake(t)
	tries := 0
	f.cutover = func(context.Context, step.EndIn) (step.CutoverOut, error) {
		if tries++; tries == 1 {
			return step.CutoverOut{}, fault(migration.FaultNotReady, step.Progress{})
		}
		return step.CutoverOut{Verified: "hash"}, nil
	}
	f.signal(time.Hour, workflows.SignalCutover, nil)
	f.after(2*time.Hour, func() {
		require.Equal(t, migration.PhaseIncremental, f.status().Phase)
		require.Equal(t, "aborted", f.status().Cutover.Step)
	})
	f.signal(3*time.Hour, workflows.SignalCutover, nil)
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseFinished, report.State)
	require.Equal(t, 2, tries)
}

func TestAutomaticCutoverTriesAgain(t *testing.T) {
	f := newFake(t)
	f.spec.Cutover.Mode = "auto"
	tries := 0
	f.cutover = func(context.Context, step.EndIn) (step.CutoverOut, error) {
		if tries++; tries < 3 {
			return step.CutoverOut{}, fault(migration.FaultNotReady, step.Progress{})
		}
		return step.CutoverOut{}, nil
	}
	_, err := f.run()
	require.NoError(t, err)
	require.Equal(t, 3, tries)
	require.GreaterOrEqual(t, f.Now().Sub(f.start), time.Minute)
}

func TestPauseKeepsTheConnectionInIncremental(t *testing.T) {
	f := newFake(t)
	f.signal(time.Hour, workflows.SignalPause, nil)
	f.after(2*time.Hour, func() { require.Equal(t, "paused", f.status().State) })
	f.signal(3*time.Hour, workflows.SignalResume, nil)
	f.signal(4*time.Hour, workflows.SignalCutover, nil)
	_, err := f.run()
	require.NoError(t, err)
	require.Equal(t, []step.StreamGoal{step.UntilExact, step.UntilCancelled, step.Held, step.UntilCancelled}, f.goals)
}

func TestPauseInCopyRunsTheLanesAgain(t *testing.T) {
	f := newFake(t)
	lanes := map[int]int{}
	f.copy = func(_ context.Context, in step.CopyIn) (step.CopyOut, error) {
		if lanes[in.Lane]++; lanes[in.Lane] == 1 {
			return step.CopyOut{}, activity.ErrResultPending
		}
		return step.CopyOut{}, nil
	}
	f.signal(time.Minute, workflows.SignalPause, nil)
	f.after(2*time.Minute, func() { require.True(t, f.status().Paused) })
	f.signal(time.Hour, workflows.SignalResume, nil)
	f.signal(2*time.Hour, workflows.SignalCutover, nil)
	_, err := f.run()
	require.NoError(t, err)
	require.Equal(t, map[int]int{1: 2, 2: 2}, lanes)
}

func TestPauseInCutoverLiftsTheFence(t *testing.T) {
	f := newFake(t)
	tries := 0
	f.cutover = func(context.Context, step.EndIn) (step.CutoverOut, error) {
		if tries++; tries == 1 {
			return step.CutoverOut{}, activity.ErrResultPending
		}
		return step.CutoverOut{}, nil
	}
	f.signal(time.Hour, workflows.SignalCutover, nil)
	f.signal(time.Hour+time.Second, workflows.SignalPause, nil)
	f.after(2*time.Hour, func() {
		require.Equal(t, migration.PhaseIncremental, f.status().Phase)
		require.True(t, f.status().Paused)
	})
	f.signal(3*time.Hour, workflows.SignalResume, nil)
	f.signal(4*time.Hour, workflows.SignalCutover, nil)
	_, err := f.run()
	require.NoError(t, err)
	require.Equal(t, 2, tries)
}

func TestFailedObjectWaitsForAPerson(t *testing.T) {
	f := newFake(t)
	tries := 0
	f.schema = func(context.Context, step.SchemaIn) (step.SchemaOut, error) {
		if tries++; tries == 1 {
			return step.SchemaOut{}, fault(migration.FaultObject, step.Progress{})
		}
		return step.SchemaOut{}, nil
	}
	f.after(time.Minute, func() {
		require.Equal(t, "attention", f.status().State)
		require.Contains(t, f.status().Attention.Command, "pgdts resume")
	})
	f.signal(time.Hour, workflows.SignalResume, nil)
	f.signal(2*time.Hour, workflows.SignalCutover, nil)
	_, err := f.run()
	require.NoError(t, err)
	require.Equal(t, 2, tries)
}

func TestFailedObjectFailsTheMigrationWhenAsked(t *testing.T) {
	f := newFake(t)
	f.spec.Schema.OnObjectFailure = "fail"
	f.schema = func(context.Context, step.SchemaIn) (step.SchemaOut, error) {
		return step.SchemaOut{}, fault(migration.FaultObject, step.Progress{})
	}
	_, err := f.run()
	require.Equal(t, migration.FaultObject, kindOf(t, err))
	require.Len(t, f.cleanups, 1, "the slot must not stay behind")
}

func TestFencedMigrationTouchesNothingMore(t *testing.T) {
	f := newFake(t)
	f.prepare = func(context.Context, step.In) (step.PrepareOut, error) {
		return step.PrepareOut{}, fault(migration.FaultFenced, step.Progress{})
	}
	_, err := f.run()
	require.Equal(t, migration.FaultFenced, kindOf(t, err))
	require.Empty(t, f.cleanups, "the slot belongs to whoever took over")
}

func TestSourceDownAtTheEndOwesTheCleanup(t *testing.T) {
	f := newFake(t)
	down := true
	f.cleanup = func(context.Context, step.CleanupIn) (step.CleanupOut, error) {
		if down {
			return step.CleanupOut{}, fault(migration.FaultConnection, step.Progress{})
		}
		return step.CleanupOut{}, nil
	}
	f.after(2*time.Hour, func() { down = false })
	f.signal(time.Hour, workflows.SignalStop, nil)
	report, err := f.run()
	require.NoError(t, err)
	require.Len(t, report.Notes, 1)
	require.Contains(t, report.Notes[0], "release")
}

func TestInvalidDefinitionIsRefusedBeforeAnything(t *testing.T) {
	f := newFake(t)
	f.spec.Retry.Other = f.spec.Retry.Connection
	_, err := f.run()
	require.Equal(t, migration.FaultInvalid, kindOf(t, err))
	require.True(t, errors.As(err, new(*temporal.ApplicationError)))
}

// A worker that is gone says nothing until its heartbeat time-out, and nothing is left for its lane.
func TestTheLaneOfALostWorkerDoesNotHoldUpTheEndOfTheCopy(t *testing.T) {
	f := newFake(t)
	f.copy = func(_ context.Context, in step.CopyIn) (step.CopyOut, error) {
		if in.Lane == 2 {
			return step.CopyOut{}, activity.ErrResultPending
		}
		return step.CopyOut{All: migration.Amounts{Rows: 7}}, nil
	}
	f.after(30*time.Second, func() {
		require.Equal(t, migration.PhaseIncremental, f.status().Phase)
		require.Equal(t, int64(7), f.status().Rows.Copied)
	})
	f.signal(time.Hour, workflows.SignalCutover, nil)
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseFinished, report.State)
}

// Lanes wait for room in a queue of their own, so that a worker that comes later gets some.
func TestLanesWaitForRoomInAQueueOfTheirOwn(t *testing.T) {
	f := newFake(t)
	queues := map[string]bool{}
	f.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == step.Copy.Name {
			queues[info.TaskQueue] = true
		} else {
			require.NotContains(t, info.TaskQueue, "/copy")
		}
	})
	f.signal(time.Hour, workflows.SignalCutover, nil)
	_, err := f.run()
	require.NoError(t, err)
	require.Equal(t, map[string]bool{workflows.CopyQueue("default-test-taskqueue"): true}, queues)
}

// A lane that makes room is still needed: what others have in hand may come back to it. It asks for room again, ever more patiently,
// and not before those that waited for it had their turn.
func TestALaneThatMadeRoomQueuesUpAgain(t *testing.T) {
	f := newFake(t)
	var patience []time.Duration
	var asked []time.Time
	f.copy = func(_ context.Context, in step.CopyIn) (step.CopyOut, error) {
		if in.Lane == 2 {
			return step.CopyOut{}, activity.ErrResultPending
		}
		patience, asked = append(patience, in.Patience.D()), append(asked, f.Now())
		return step.CopyOut{Left: len(patience) < 6}, nil
	}
	f.signal(time.Hour, workflows.SignalCutover, nil)
	_, err := f.run()
	require.NoError(t, err)
	const minute = time.Minute
	require.Equal(t, []time.Duration{minute, 2 * minute, 4 * minute, 8 * minute, 10 * minute, 10 * minute}, patience)
	for i, at := range asked[1:] {
		require.GreaterOrEqual(t, at.Sub(asked[i]), 5*time.Second)
	}
}

// Temporal hears the attempt that it counts on only. That one loses its place to a worker that was frozen and wakes.
func TestAStepWhosePlaceWasTakenIsTriedAgain(t *testing.T) {
	f := newFake(t)
	tries := 0
	f.stream = func(_ context.Context, in step.StreamIn) (step.StreamOut, error) {
		if tries++; tries == 1 {
			return step.StreamOut{}, fault(migration.FaultReplaced, step.Progress{})
		}
		if in.Goal == step.UntilCancelled {
			return step.StreamOut{}, activity.ErrResultPending
		}
		return step.StreamOut{Reached: true}, nil
	}
	f.signal(time.Hour, workflows.SignalStop, nil)
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseStopped, report.State)
	require.Greater(t, tries, 1)
}
