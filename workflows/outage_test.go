package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// outageOf lets the stream fail with a kind from the start until the source is repaired, and the probe with it.
// The environment retries a probe ten times at most unless a bound is given, so probes wait on the clock themselves.
func (f *fake) outageOf(kind migration.FaultKind, until time.Duration) {
	down := func() bool { return f.Now().Sub(f.start) < until }
	f.stream = func(ctx context.Context, in step.StreamIn) (step.StreamOut, error) {
		if down() {
			return step.StreamOut{}, fault(kind, step.Progress{})
		}
		return untilCancelled(ctx, in)
	}
	f.probe = func(context.Context, step.ProbeIn) (struct{}, error) {
		if down() && kind == migration.FaultConnection {
			return struct{}{}, fault(kind, step.Progress{})
		}
		return struct{}{}, nil
	}
}

func TestConnectionOutageOf719MinutesRecovers(t *testing.T) {
	f := newFake(t)
	f.outageOf(migration.FaultConnection, 719*time.Minute)
	f.after(10*time.Hour, func() {
		status := f.status()
		require.Equal(t, "retrying", status.State)
		require.Equal(t, migration.FaultConnection, status.Outage.Kind)
		require.InDelta(t, (2 * time.Hour).Seconds(), status.Outage.WindowLeftSeconds, 60)
	})
	f.signal(730*time.Minute, workflows.SignalCutover, nil)
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseFinished, report.State)
}

func TestConnectionOutageOf721MinutesFailsAndDropsTheSlot(t *testing.T) {
	f := newFake(t)
	f.outageOf(migration.FaultConnection, 100*time.Hour)
	_, err := f.run()
	require.Equal(t, migration.FaultWindow, kindOf(t, err))
	require.InDelta(t, 720, f.Now().Sub(f.start).Minutes(), 1)
	require.Len(t, f.cleanups, 1)
	require.False(t, f.cleanups[0].KeepSlot)
}

func TestOtherWindowIsTenMinutes(t *testing.T) {
	f := newFake(t)
	f.outageOf(migration.FaultOther, 9*time.Minute)
	f.signal(time.Hour, workflows.SignalCutover, nil)
	_, err := f.run()
	require.NoError(t, err)

	f = newFake(t)
	f.outageOf(migration.FaultOther, 100*time.Hour)
	_, err = f.run()
	require.Equal(t, migration.FaultWindow, kindOf(t, err))
	require.InDelta(t, 10, f.Now().Sub(f.start).Minutes(), 1)
}

func TestKeepSlotOnFailure(t *testing.T) {
	f := newFake(t)
	f.spec.OnFailure = migration.KeepSlot
	f.outageOf(migration.FaultOther, 100*time.Hour)
	_, err := f.run()
	require.Error(t, err)
	require.True(t, f.cleanups[0].KeepSlot)
}

func TestWaitOnFailureAsksAPerson(t *testing.T) {
	f := newFake(t)
	f.spec.OnFailure = migration.WaitOnFailure
	f.outageOf(migration.FaultOther, time.Hour)
	f.after(30*time.Minute, func() { require.Equal(t, "attention", f.status().State) })
	f.signal(2*time.Hour, workflows.SignalResume, nil)
	f.signal(3*time.Hour, workflows.SignalCutover, nil)
	_, err := f.run()
	require.NoError(t, err)
}

// Alternating kinds neither share nor restart a clock: the smaller window ends the migration although connection
// failures lie between.
func TestAlternatingKindsKeepTheirClocks(t *testing.T) {
	f := newFake(t)
	n := 0
	f.stream = func(context.Context, step.StreamIn) (step.StreamOut, error) {
		if n++; n%2 == 0 {
			return step.StreamOut{}, fault(migration.FaultConnection, step.Progress{})
		}
		return step.StreamOut{}, fault(migration.FaultOther, step.Progress{})
	}
	_, err := f.run()
	require.Equal(t, migration.FaultWindow, kindOf(t, err))
	require.InDelta(t, 10, f.Now().Sub(f.start).Minutes(), 1)
}

// Progress ends an outage: failures for an hour, each after something moved, never exhaust a window of ten minutes.
func TestProgressResetsTheWindow(t *testing.T) {
	f := newFake(t)
	f.stream = func(ctx context.Context, in step.StreamIn) (step.StreamOut, error) {
		if f.Now().Sub(f.start) < time.Hour {
			return step.StreamOut{}, fault(migration.FaultOther, step.Progress{Made: true, Ran: migration.Duration(time.Second)})
		}
		return untilCancelled(ctx, in)
	}
	f.signal(2*time.Hour, workflows.SignalCutover, nil)
	_, err := f.run()
	require.NoError(t, err)
	require.Less(t, len(f.goals), 200, "flapping with progress must not spin")
}

// A reachable server with a broken stream must not be retried for ever: the probe's success alone ends nothing.
func TestReachableServerWithBrokenStreamExhaustsTheWindow(t *testing.T) {
	f := newFake(t)
	f.spec.Retry.Connection = migration.Duration(20 * time.Minute)
	f.stream = func(context.Context, step.StreamIn) (step.StreamOut, error) {
		return step.StreamOut{}, fault(migration.FaultConnection, step.Progress{})
	}
	_, err := f.run()
	require.Equal(t, migration.FaultWindow, kindOf(t, err))
	require.InDelta(t, 20, f.Now().Sub(f.start).Minutes(), 1)
}

func TestStopAmidAnOutage(t *testing.T) {
	f := newFake(t)
	f.outageOf(migration.FaultConnection, 100*time.Hour)
	f.signal(time.Hour, workflows.SignalStop, nil)
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseStopped, report.State)
	require.InDelta(t, 60, f.Now().Sub(f.start).Minutes(), 1)
}

func TestLongerWindowReachesARunningOutage(t *testing.T) {
	f := newFake(t)
	f.outageOf(migration.FaultConnection, 1000*time.Minute)
	f.signal(10*time.Hour, workflows.SignalRetry, workflows.Retry{Connection: migration.Duration(1440 * time.Minute)})
	f.signal(1100*time.Minute, workflows.SignalCutover, nil)
	_, err := f.run()
	require.NoError(t, err)
}

func TestOutageInEveryPhase(t *testing.T) {
	once := func(f *fake) error {
		if f.Now().Sub(f.start) < time.Hour {
			return fault(migration.FaultConnection, step.Progress{})
		}
		return nil
	}
	for name, arrange := range map[string]func(*fake){
		"precheck": func(f *fake) {
			f.precheck = func(context.Context, step.PrecheckIn) (migration.CheckResult, error) {
				return migration.CheckResult{}, once(f)
			}
		},
		"prepare": func(f *fake) {
			f.prepare = func(context.Context, step.In) (step.PrepareOut, error) { return step.PrepareOut{}, once(f) }
		},
		"schema": func(f *fake) {
			f.schema = func(context.Context, step.SchemaIn) (step.SchemaOut, error) { return step.SchemaOut{}, once(f) }
		},
		"copy": func(f *fake) {
			f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) { return step.CopyOut{}, once(f) }
		},
		"constraints": func(f *fake) {
			f.constraints = func(context.Context, step.SchemaIn) (step.SchemaOut, error) { return step.SchemaOut{}, once(f) }
		},
		"cutover": func(f *fake) {
			f.cutover = func(context.Context, step.EndIn) (step.CutoverOut, error) { return step.CutoverOut{}, once(f) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			arrange(f)
			f.probe = func(context.Context, step.ProbeIn) (struct{}, error) { return struct{}{}, once(f) }
			cutoverAt := 2 * time.Hour
			if name == "cutover" {
				cutoverAt = time.Minute
			}
			f.signal(cutoverAt, workflows.SignalCutover, nil)
			report, err := f.run()
			require.NoError(t, err)
			require.Equal(t, migration.PhaseFinished, report.State)
		})
	}
}

// The history of a migration of any size stays small: lanes claim chunks from the ledger.
func TestOneFaultOfOneLaneDoesNotStopTheOthers(t *testing.T) {
	f := newFake(t)
	runs := map[int]int{}
	f.copy = func(_ context.Context, in step.CopyIn) (step.CopyOut, error) {
		if runs[in.Lane]++; in.Lane == 1 && runs[1] == 1 {
			return step.CopyOut{}, fault(migration.FaultConnection, step.Progress{})
		}
		return step.CopyOut{}, nil
	}
	f.signal(time.Hour, workflows.SignalCutover, nil)
	_, err := f.run()
	require.NoError(t, err)
	require.Equal(t, map[int]int{1: 2, 2: 1}, runs)
}
