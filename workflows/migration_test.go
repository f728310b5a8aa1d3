package workflows_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// fake is one migration in the SDK's environment with skipped time. Each step is a function that a test replaces; the
// defaults succeed at once, and streams run until they are cancelled.
type fake struct {
	*testsuite.TestWorkflowEnvironment
	t     *testing.T
	spec  migration.Spec
	start time.Time

	precheck    func(context.Context, step.PrecheckIn) (migration.CheckResult, error)
	prepare     func(context.Context, step.In) (step.PrepareOut, error)
	schema      func(context.Context, step.SchemaIn) (step.SchemaOut, error)
	plan        func(context.Context, step.In) (step.PlanOut, error)
	copy        func(context.Context, step.CopyIn) (step.CopyOut, error)
	stream      func(context.Context, step.StreamIn) (step.StreamOut, error)
	constraints func(context.Context, step.SchemaIn) (step.SchemaOut, error)
	hold        func(context.Context, step.In) (struct{}, error)
	cutover     func(context.Context, step.EndIn) (step.CutoverOut, error)
	settle      func(context.Context, step.EndIn) (step.SettleOut, error)
	cleanup     func(context.Context, step.CleanupIn) (step.CleanupOut, error)
	probe       func(context.Context, step.ProbeIn) (struct{}, error)
	throttle    func(context.Context, step.ThrottleIn) (struct{}, error)

	mu       sync.Mutex // fakes are called on goroutines of the environment, which hold it
	enters   *sync.Cond // of mu: a step was entered
	cleanups []step.CleanupIn
	goals    []step.StreamGoal
	entered  []string // steps in order
}

func newFake(t *testing.T) *fake {
	var suite testsuite.WorkflowTestSuite
	f := &fake{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t}
	f.enters = sync.NewCond(&f.mu)
	f.SetTestTimeout(time.Minute)
	f.spec = migration.Spec{
		ID: "pgdts/shop/abcdefghij", Source: migration.Endpoint{Host: "a", Database: "shop"}, Target: migration.Endpoint{Host: "b", Database: "shop"},
	}
	f.spec.Defaults()
	f.defaults()
	f.RegisterWorkflowWithOptions(workflows.Migration, workflow.RegisterOptions{Name: workflows.MigrationName})
	f.RegisterWorkflowWithOptions(workflows.Cleanup, workflow.RegisterOptions{Name: workflows.CleanupName})
	f.bind()
	f.start = f.Now()
	return f
}

func (f *fake) defaults() {
	f.precheck = func(context.Context, step.PrecheckIn) (migration.CheckResult, error) {
		return migration.CheckResult{SuccessRate: 100}, nil
	}
	f.prepare = func(context.Context, step.In) (step.PrepareOut, error) { return step.PrepareOut{Slot: "s"}, nil }
	f.schema = func(context.Context, step.SchemaIn) (step.SchemaOut, error) { return step.SchemaOut{}, nil }
	f.constraints = f.schema
	f.plan = func(context.Context, step.In) (step.PlanOut, error) { return step.PlanOut{Tables: 3, Lanes: 2}, nil }
	f.copy = func(context.Context, step.CopyIn) (step.CopyOut, error) { return step.CopyOut{}, nil }
	f.stream = untilCancelled
	f.hold = func(context.Context, step.In) (struct{}, error) { return struct{}{}, activity.ErrResultPending }
	f.settle = func(context.Context, step.EndIn) (step.SettleOut, error) { return step.SettleOut{Sequences: 4}, nil }
	f.cutover = func(context.Context, step.EndIn) (step.CutoverOut, error) {
		return step.CutoverOut{Opened: f.Now(), Verified: "hash"}, nil
	}
	f.cleanup = func(context.Context, step.CleanupIn) (step.CleanupOut, error) { return step.CleanupOut{}, nil }
	f.throttle = func(context.Context, step.ThrottleIn) (struct{}, error) { return struct{}{}, nil }
	f.probe = func(context.Context, step.ProbeIn) (struct{}, error) { return struct{}{}, nil }
}

// untilCancelled is a stream that reaches every goal but "never" at once. A pending activity lets the environment skip
// time, and ends when it is cancelled.
func untilCancelled(_ context.Context, in step.StreamIn) (step.StreamOut, error) {
	if in.Goal == step.UntilCancelled || in.Goal == step.Held {
		return step.StreamOut{}, activity.ErrResultPending
	}
	return step.StreamOut{Reached: true}, nil
}

func (f *fake) bind() {
	register(f, step.Precheck, func(ctx context.Context, in step.PrecheckIn) (migration.CheckResult, error) {
		return f.precheck(ctx, in)
	})
	register(f, step.Prepare, func(ctx context.Context, in step.In) (step.PrepareOut, error) { return f.prepare(ctx, in) })
	register(f, step.Schema, func(ctx context.Context, in step.SchemaIn) (step.SchemaOut, error) { return f.schema(ctx, in) })
	register(f, step.Plan, func(ctx context.Context, in step.In) (step.PlanOut, error) { return f.plan(ctx, in) })
	register(f, step.Copy, func(ctx context.Context, in step.CopyIn) (step.CopyOut, error) { return f.copy(ctx, in) })
	register(f, step.Stream, func(ctx context.Context, in step.StreamIn) (step.StreamOut, error) {
		f.goals = append(f.goals, in.Goal)
		return f.stream(ctx, in)
	})
	register(f, step.Watch, func(context.Context, step.In) (struct{}, error) { return struct{}{}, activity.ErrResultPending })
	register(f, step.Constraints, func(ctx context.Context, in step.SchemaIn) (step.SchemaOut, error) { return f.constraints(ctx, in) })
	register(f, step.Hold, func(ctx context.Context, in step.In) (struct{}, error) { return f.hold(ctx, in) })
	register(f, step.Cutover, func(ctx context.Context, in step.EndIn) (step.CutoverOut, error) { return f.cutover(ctx, in) })
	register(f, step.Settle, func(ctx context.Context, in step.EndIn) (step.SettleOut, error) { return f.settle(ctx, in) })
	register(f, step.Cleanup, func(ctx context.Context, in step.CleanupIn) (step.CleanupOut, error) {
		f.cleanups = append(f.cleanups, in)
		return f.cleanup(ctx, in)
	})
	register(f, step.Summary, func(context.Context, step.In) (migration.Report, error) { return migration.Report{Tables: 3}, nil })
	register(f, step.Throttle, func(ctx context.Context, in step.ThrottleIn) (struct{}, error) { return f.throttle(ctx, in) })
	register(f, step.Probe, func(ctx context.Context, in step.ProbeIn) (struct{}, error) { return f.probe(ctx, in) })
}

func register[In, Out any](f *fake, s step.Activity[In, Out], do func(context.Context, In) (Out, error)) {
	one := func(ctx context.Context, in In) (Out, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.entered = append(f.entered, s.Name)
		f.enters.Broadcast()
		return do(ctx, in)
	}
	f.RegisterActivityWithOptions(one, activity.RegisterOptions{Name: s.Name})
}

// awaitEntered waits, in a step, until another one has begun, too.
func (f *fake) awaitEntered(name string) {
	for !slices.Contains(f.entered, name) {
		f.enters.Wait()
	}
}

func (f *fake) run() (migration.Report, error) {
	f.ExecuteWorkflow(workflows.MigrationName, workflows.Input{Spec: f.spec})
	require.True(f.t, f.IsWorkflowCompleted())
	if err := f.GetWorkflowError(); err != nil {
		return migration.Report{}, err
	}
	var report migration.Report
	require.NoError(f.t, f.GetWorkflowResult(&report))
	return report, nil
}

func (f *fake) after(delay time.Duration, do func()) { f.RegisterDelayedCallback(do, delay) }

func (f *fake) signal(delay time.Duration, name string, arg any) {
	f.after(delay, func() { f.SignalWorkflow(name, arg) })
}

func (f *fake) status() migration.Status {
	value, err := f.QueryWorkflow(workflows.QueryStatus)
	require.NoError(f.t, err)
	var status migration.Status
	require.NoError(f.t, value.Get(&status))
	return status
}

func fault(kind migration.FaultKind, progress step.Progress) error {
	return failure(migration.Faultf(kind, "do", "it", "because"), progress)
}

func failure(f *migration.Fault, progress step.Progress) error {
	return temporal.NewApplicationErrorWithOptions(f.Error(), string(f.Kind), temporal.ApplicationErrorOptions{Details: []any{f, progress}})
}

func TestWholeMigrationEndsByCutover(t *testing.T) {
	f := newFake(t)
	f.signal(time.Hour, workflows.SignalCutover, nil)
	report, err := f.run()
	require.NoError(t, err)
	require.Equal(t, migration.PhaseFinished, report.State)
	require.Equal(t, "hash", report.Verified)
	require.Equal(t, []step.StreamGoal{step.UntilExact, step.UntilCancelled}, f.goals)
	require.Len(t, f.cleanups, 1)
	require.Equal(t, migration.PhaseFinished, f.cleanups[0].End)
}
