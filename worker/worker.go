// Package worker serves the task queues of migrations: it binds every step to its activity, and drains when it is told
// to stop. It is also the way to the parts of the engine that need no Temporal.
package worker

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities"
	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// Config is what a worker needs.
type Config struct {
	Client client.Client
	// TaskQueue to serve; default workflows.DefaultTaskQueue.
	TaskQueue string
	Logger    *zap.Logger
	Secrets   activities.Secrets
	// ConcurrentSteps bounds the activities that run at once; each holds up to two sessions on either server. Default
	// 100.
	ConcurrentSteps int
	// HeartbeatThrottle is the longest time between heartbeats that are sent, and the time-out of sending one: an outage
	// of Temporal shorter than this does not interrupt a step, and a stop or cutover reaches it within this time.
	// Default 20 s.
	HeartbeatThrottle time.Duration
	// Observe, if set, sees every report of every step on this worker.
	Observe func(migration.Beat)
	// DrainTime is how long running steps may take to finish what they have in hand; default 30 s.
	DrainTime time.Duration
}

func (c Config) withDefaults() Config {
	if c.TaskQueue == "" {
		c.TaskQueue = workflows.DefaultTaskQueue
	}
	if c.ConcurrentSteps == 0 {
		c.ConcurrentSteps = 100
	}
	if c.DrainTime == 0 {
		c.DrainTime = 30 * time.Second
	}
	if c.HeartbeatThrottle == 0 {
		c.HeartbeatThrottle = 20 * time.Second
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}

// Run serves the task queue until ctx ends, then drains. It fails when Temporal refuses the worker for good.
func Run(ctx context.Context, config Config) error {
	config = config.withDefaults()
	fatal := make(chan error, 1)
	w := sdkworker.New(config.Client, config.TaskQueue, sdkworker.Options{
		MaxConcurrentActivityExecutionSize: config.ConcurrentSteps,
		MaxHeartbeatThrottleInterval:       config.HeartbeatThrottle,
		DefaultHeartbeatThrottleInterval:   config.HeartbeatThrottle,
		WorkerStopTimeout:                  config.DrainTime,
		DisableRegistrationAliasing:        true,
		OnFatalError:                       func(err error) { fatal <- err },
	})
	Register(w, &activities.Activities{Logger: config.Logger, Secrets: config.Secrets, Observe: config.Observe})
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()
	select {
	case <-ctx.Done():
		return nil
	case err := <-fatal:
		return err
	}
}

// Registry takes workflows and activities: a worker, a test environment, a replayer.
type Registry interface {
	RegisterWorkflowWithOptions(w any, options workflow.RegisterOptions)
	RegisterActivityWithOptions(a any, options activity.RegisterOptions)
}

// Register binds the workflows and every step.
func Register(r Registry, a *activities.Activities) {
	RegisterWorkflows(r)
	bind(r, step.Precheck, a.Precheck)
	bind(r, step.Prepare, a.Prepare)
	bind(r, step.Schema, a.Schema)
	bind(r, step.Plan, a.Plan)
	bind(r, step.Hold, a.Hold)
	bind(r, step.Copy, a.Copy)
	bind(r, step.Throttle, a.Throttle)
	bind(r, step.Stream, a.Stream)
	bind(r, step.Watch, a.Watch)
	bind(r, step.Constraints, a.Constraints)
	bind(r, step.Cutover, a.Cutover)
	bind(r, step.Settle, a.Settle)
	bind(r, step.Cleanup, a.Cleanup)
	bind(r, step.Summary, a.Summary)
	bind(r, step.Probe, a.Probe)
}

// RegisterWorkflows binds the workflows alone, for replay.
func RegisterWorkflows(r interface {
	RegisterWorkflowWithOptions(w any, options workflow.RegisterOptions)
},
) {
	r.RegisterWorkflowWithOptions(workflows.Migration, workflow.RegisterOptions{Name: workflows.MigrationName})
	r.RegisterWorkflowWithOptions(workflows.Cleanup, workflow.RegisterOptions{Name: workflows.CleanupName})
}

// bind registers an implementation under a step's name. A wrong signature does not compile.
func bind[In, Out any](r Registry, s step.Activity[In, Out], do func(context.Context, In) (Out, error)) {
	r.RegisterActivityWithOptions(do, activity.RegisterOptions{Name: s.Name})
}
