// Package worker serves the task queues of migrations: it binds every step to its activity, and drains when it is told
// to stop. It is also the way to the parts of the engine that need no Temporal.
package worker

import (
	"context"
	"sync"
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
	// CopyLanes bounds the lanes of copies, of all migrations together, that run here at once. Those that find no room wait
	// for another worker. Default: as many as definitions ask for.
	CopyLanes int
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
	if c.CopyLanes == 0 {
		c.CopyLanes = c.ConcurrentSteps
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

// Run serves the task queue, and the one of the copy's lanes beside it, until ctx ends, then drains. It fails when Temporal
// refuses the worker for good.
func Run(ctx context.Context, config Config) error {
	config = config.withDefaults()
	fatal := make(chan error, 2)
	bound := &activities.Activities{Logger: config.Logger, Secrets: config.Secrets, Observe: config.Observe}
	steps := config.worker(config.TaskQueue, config.ConcurrentSteps, false, fatal)
	Register(steps, bound)
	lanes := config.worker(workflows.CopyQueue(config.TaskQueue), config.CopyLanes, true, fatal)
	bind(lanes, step.Copy, bound.Copy)
	var draining sync.WaitGroup
	defer draining.Wait()
	for _, each := range []sdkworker.Worker{steps, lanes} {
		if err := each.Start(); err != nil && ctx.Err() == nil {
			return err
		} else if err != nil {
			return nil // the end was asked for, and the service does not answer
		}
		defer draining.Go(each.Stop) // both at once
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-fatal:
		return err
	}
}

func (c Config) worker(queue string, concurrent int, activitiesOnly bool, fatal chan<- error) sdkworker.Worker {
	return sdkworker.New(c.Client, queue, sdkworker.Options{
		MaxConcurrentActivityExecutionSize: concurrent,
		DisableWorkflowWorker:              activitiesOnly,
		MaxHeartbeatThrottleInterval:       c.HeartbeatThrottle,
		DefaultHeartbeatThrottleInterval:   c.HeartbeatThrottle,
		WorkerStopTimeout:                  c.DrainTime,
		DisableRegistrationAliasing:        true,
		OnFatalError:                       func(err error) { fatal <- err },
	})
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
