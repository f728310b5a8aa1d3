package workflows_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"

	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

func newFakeOf(t *testing.T, types ...migration.Type) *fake {
	f := newFake(t)
	f.spec.Types = types
	return f
}

// firsts are the steps in the order in which each was first begun.
func (f *fake) firsts() []string {
	var names []string
	for _, name := range f.entered {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

const (
	schema      = migration.TypeSchema
	full        = migration.TypeFull
	incremental = migration.TypeIncremental
)

// Without incremental nothing is asked of the source's log, and the migration ends by itself.
func TestEndsByItselfWithoutIncremental(t *testing.T) {
	for _, c := range []struct {
		types []migration.Type
		steps []string
	}{
		{
			types: []migration.Type{schema},
			steps: []string{"Precheck", "Prepare", "Schema", "Constraints", "Settle", "Cleanup", "Summary"},
		},
		{
			types: []migration.Type{full},
			steps: []string{"Precheck", "Prepare", "Plan", "Copy", "Settle", "Cleanup", "Summary"},
		},
		{
			types: []migration.Type{schema, full},
			steps: []string{"Precheck", "Prepare", "Schema", "Plan", "Copy", "Constraints", "Settle", "Cleanup", "Summary"},
		},
	} {
		f := newFakeOf(t, c.types...)
		f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) {
			f.awaitEntered("Hold") // steps begun together enter in any order, and this one ends the phase
			return step.CopyOut{}, nil
		}
		report, err := f.run()
		require.NoError(t, err)
		require.Equal(t, migration.PhaseFinished, report.State)
		require.Equal(t, c.types, report.Types)
		require.Equal(t, 4, report.Sequences)
		require.Equal(t, slices.Contains(c.types, full), slices.Contains(f.firsts(), "Hold"))
		require.Equal(t, c.steps, slices.DeleteFunc(f.firsts(), func(name string) bool { return name == "Watch" || name == "Hold" }))
		require.Empty(t, f.goals, "there is no stream")
		require.Len(t, f.cleanups, 1)
		for _, phase := range f.status().Phases {
			want := "skipped"
			if slices.Contains(f.spec.Phases(), phase.Name) {
				want = "done"
			}
			require.Equal(t, want, phase.State, "%s of %v", phase.Name, c.types)
		}
	}
}

// Without full nothing is copied: the plan has no lanes, and the stream begins at once.
func TestStreamsWithoutCopying(t *testing.T) {
	for _, c := range []struct {
		types []migration.Type
		steps []string
	}{
		{[]migration.Type{incremental}, []string{"Precheck", "Prepare", "Plan", "Stream", "Cutover", "Cleanup", "Summary"}},
		{[]migration.Type{schema, incremental}, []string{"Precheck", "Prepare", "Schema", "Plan", "Stream", "Constraints", "Cutover", "Cleanup", "Summary"}},
		{[]migration.Type{full, incremental}, []string{"Precheck", "Prepare", "Plan", "Copy", "Stream", "Cutover", "Cleanup", "Summary"}},
	} {
		f := newFakeOf(t, c.types...)
		f.plan = func(context.Context, step.In) (step.PlanOut, error) {
			if !f.spec.Has(full) {
				return step.PlanOut{Tables: 3}, nil
			}
			return step.PlanOut{Tables: 3, Lanes: 2, Rows: 100}, nil
		}
		f.after(30*time.Minute, func() {
			status := f.status()
			require.Equal(t, migration.PhaseIncremental, status.Phase)
			require.Equal(t, c.types, status.Types)
			require.Contains(t, status.Actions, "cutover")
			require.Equal(t, f.spec.Has(full), status.Tables.Copied == 3)
		})
		f.signal(time.Hour, workflows.SignalCutover, nil)
		report, err := f.run()
		require.NoError(t, err)
		require.Equal(t, migration.PhaseFinished, report.State)
		require.Equal(t, c.steps, slices.DeleteFunc(f.firsts(), func(name string) bool { return name == "Watch" }))
		require.Equal(t, []step.StreamGoal{step.UntilExact, step.UntilCancelled}, f.goals)
	}
}

// A snapshot that is lost is made anew in its own outage, while the lanes wait for it; the copy's lanes are not failed by it.
func TestLostSnapshotIsHeldAgain(t *testing.T) {
	f := newFakeOf(t, schema, full)
	holds := 0
	f.hold = func(context.Context, step.In) (struct{}, error) {
		if holds++; holds <= 3 {
			return struct{}{}, fault(migration.FaultConnection, step.Progress{})
		}
		return struct{}{}, activity.ErrResultPending
	}
	f.copyUntil(time.Hour)
	f.after(2*time.Second, func() {
		require.Equal(t, "retrying", f.status().State)
		require.Equal(t, migration.PhaseCopy, f.status().Phase)
	})
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseFinished, report.State)
	require.Equal(t, 4, holds)
}

// copyUntil lets the lanes fail for want of a snapshot until a moment, as those of the engine do.
func (f *fake) copyUntil(moment time.Duration) {
	f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) {
		if f.Now().Sub(f.start) < moment {
			return step.CopyOut{}, fault(migration.FaultConnection, step.Progress{Made: true})
		}
		return step.CopyOut{}, nil
	}
}

// A person may take days to answer: the lanes that have no snapshot meanwhile must not end the migration.
func TestLanesWaitWhileAPersonIsAskedAboutTheSnapshot(t *testing.T) {
	f := newFakeOf(t, full)
	answered := false
	f.hold = func(context.Context, step.In) (struct{}, error) {
		if !answered {
			return struct{}{}, fault(migration.FaultDrift, step.Progress{})
		}
		return struct{}{}, activity.ErrResultPending
	}
	f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) {
		if !answered {
			return step.CopyOut{}, fault(migration.FaultConnection, step.Progress{})
		}
		return step.CopyOut{}, nil
	}
	f.after(70*time.Hour, func() {
		require.Equal(t, "attention", f.status().State)
		answered = true
	})
	f.signal(71*time.Hour, workflows.SignalResume, nil)
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseFinished, report.State)
}

func TestSnapshotThatCannotBeHeldFailsTheCopy(t *testing.T) {
	f := newFakeOf(t, full)
	f.hold = func(context.Context, step.In) (struct{}, error) {
		return struct{}{}, fault(migration.FaultOther, step.Progress{})
	}
	f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) {
		return step.CopyOut{}, activity.ErrResultPending
	}
	_, err := f.run()
	require.Equal(t, migration.FaultWindow, kindOf(t, err))
	require.InDelta(t, 10, f.Now().Sub(f.start).Minutes(), 1)
	require.Len(t, f.cleanups, 1)
	require.False(t, f.cleanups[0].KeepSlot)
}

func TestSlotIsNotKeptWhereThereIsNone(t *testing.T) {
	f := newFakeOf(t, schema)
	f.spec.OnFailure = migration.KeepSlot
	f.schema = func(context.Context, step.SchemaIn) (step.SchemaOut, error) {
		return step.SchemaOut{}, fault(migration.FaultInvalid, step.Progress{})
	}
	_, err := f.run()
	require.Error(t, err)
	require.False(t, f.cleanups[0].KeepSlot)
}

func TestStopBeforeTheEndAbandonsWithoutIncremental(t *testing.T) {
	for _, phase := range []migration.Phase{migration.PhaseSchema, migration.PhaseCopy, migration.PhaseConstraints} {
		f := newFakeOf(t, schema, full)
		switch phase {
		case migration.PhaseSchema:
			f.schema = func(context.Context, step.SchemaIn) (step.SchemaOut, error) {
				return step.SchemaOut{}, activity.ErrResultPending
			}
		case migration.PhaseCopy:
			f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) {
				return step.CopyOut{}, activity.ErrResultPending
			}
		default:
			f.settle = func(context.Context, step.EndIn) (step.SettleOut, error) {
				return step.SettleOut{}, activity.ErrResultPending
			}
		}
		f.after(time.Hour, func() { require.Equal(t, phase, f.status().Phase) })
		f.signal(time.Hour+time.Second, workflows.SignalStop, nil)
		report, err := f.run()
		require.NoError(t, err)
		require.Equal(t, migration.PhaseStopped, report.State)
		require.Equal(t, migration.FaultStopped, report.Failure.Kind)
		require.Empty(t, f.goals)
		require.Len(t, f.cleanups, 1)
	}
}

func TestOrdersThatNeedIncrementalAreRefusedWithout(t *testing.T) {
	f := newFakeOf(t, schema, full)
	f.copyUntil(time.Hour)
	f.signal(time.Minute, workflows.SignalPause, nil)
	f.after(2*time.Minute, func() {
		status := f.status()
		require.False(t, status.Paused)
		require.Contains(t, status.Cutover.Message, "cannot pause")
		require.NotContains(t, status.Actions, "pause")
		require.NotContains(t, status.Actions, "cutover")
	})
	f.signal(3*time.Minute, workflows.SignalCutover, nil)
	f.after(4*time.Minute, func() { require.Contains(t, f.status().Cutover.Message, "ends by itself") })
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseFinished, report.State)
}

func TestObjectIsLeftOutByResume(t *testing.T) {
	f := newFakeOf(t, schema, full)
	status := migration.ObjectStatus{Done: 3, Failed: 1, Failures: []migration.SchemaObject{
		{No: 4, Section: "before", Kind: "VIEW", Name: "public.v", State: "failed", SQLState: "42883"},
	}}
	tries := func(again func([]string)) func(context.Context, step.SchemaIn) (step.SchemaOut, error) {
		return func(_ context.Context, in step.SchemaIn) (step.SchemaOut, error) {
			if !slices.Contains(in.Skip, "VIEW public.v") {
				return step.SchemaOut{}, failure(&migration.Fault{Kind: migration.FaultObject, Message: "m", Objects: &status}, step.Progress{})
			}
			again(in.Skip)
			return step.SchemaOut{Objects: migration.ObjectStatus{Done: 3, Skipped: 1}}, nil
		}
	}
	f.schema = tries(func(skip []string) { require.Equal(t, []string{"VIEW public.v"}, skip) })
	f.constraints = tries(func([]string) {})
	f.settle = func(_ context.Context, in step.EndIn) (step.SettleOut, error) {
		require.Equal(t, []string{"VIEW public.v"}, in.Skip)
		return step.SettleOut{Objects: migration.ObjectStatus{Done: 5, Skipped: 1}}, nil
	}
	f.after(time.Minute, func() {
		require.Equal(t, "attention", f.status().State)
		require.Equal(t, status, f.status().Objects)
		require.Equal(t, "VIEW public.v", f.status().Objects.Failures[0].Title())
	})
	f.signal(time.Hour, workflows.SignalResume, workflows.Resume{Ignore: []string{"VIEW public.v"}})
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseFinished, report.State)
	require.Equal(t, 5, f.status().Objects.Done)
}
