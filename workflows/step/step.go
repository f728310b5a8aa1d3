// Package step is the contract between the workflow and the activities: one typed value per activity, with its name on
// the wire, what goes in, what comes out, and how patient Temporal is with it. Workflows reach activities through it
// alone, so that no driver is in reach of workflow code and a renamed Go method cannot break a running migration.
package step

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Activity is one kind of step.
type Activity[In, Out any] struct {
	Name    string
	Summary string
	Options workflow.ActivityOptions
}

// Start schedules the step; summary "" is the step's own.
func (a Activity[In, Out]) Start(ctx workflow.Context, in In, summary string) workflow.Future {
	options := a.Options
	options.Summary = a.Summary
	if summary != "" {
		options.Summary = summary
	}
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), a.Name, in)
}

// Run schedules the step and waits for it.
func (a Activity[In, Out]) Run(ctx workflow.Context, in In) (Out, error) {
	var out Out
	err := a.Start(ctx, in, "").Get(ctx, &out)
	return out, err
}

const (
	// heartbeatTimeout is how long a silent worker is believed to live. The SDK sends at most every 0.8 of it and at
	// least every MaxHeartbeatThrottleInterval, which is also the time-out of sending: with 20 s of throttle a Temporal
	// outage shorter than that does not touch the stream.
	heartbeatTimeout = 60 * time.Second
	forever          = 365 * 24 * time.Hour
)

// long are the options of steps that run for as long as there is work: Temporal retries only what is no error of the
// databases (a lost worker, a worker that leaves); every fault comes back to the workflow, which keeps the windows.
func long() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: forever,
		HeartbeatTimeout:    heartbeatTimeout,
		WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:        time.Second,
			BackoffCoefficient:     1.5,
			MaximumInterval:        10 * time.Second,
			NonRetryableErrorTypes: faultTypes(),
		},
	}
}

// faultTypes are the kinds that Temporal must not retry by itself: all but a worker's shutdown.
func faultTypes() []string {
	types := []string{"PanicError"}
	for kind := range migration.Policy {
		if kind != migration.FaultShutdown {
			types = append(types, string(kind))
		}
	}
	return types
}

// In is what every step needs: the definition, and which execution of the workflow speaks (the lease on the ledger).
type In struct {
	Spec migration.Spec `json:"spec"`
	Run  string         `json:"run"`
	// Again: a person has ordered to begin anew, whatever an earlier execution left unfinished.
	Again bool `json:"again,omitempty"`
}

// Progress travels in the details of a fault, beside it: heartbeats do not reach the workflow.
type Progress struct {
	// Made reports whether this attempt moved something that will not be done again: rows, objects, the applied
	// position; for the stream also a minute of being caught up.
	Made bool               `json:"made"`
	Ran  migration.Duration `json:"ran"`
}
