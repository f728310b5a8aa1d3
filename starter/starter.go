package starter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Starter speaks to one namespace of a Temporal service. It may be used by many goroutines.
type Starter struct {
	client client.Client

	mu       sync.Mutex
	observed map[string]migration.Beat
	furthest map[migration.ID]mark // of copies that were asked about
}

// New makes a Starter of a connected client, which stays the caller's to close.
func New(c client.Client) *Starter {
	return &Starter{client: c, observed: map[string]migration.Beat{}, furthest: map[migration.ID]mark{}}
}

// Option changes what Start accepts.
type Option func(*options)

type options struct{ again, anew, here bool }

// Again lets Start begin anew under the id of a migration that has ended well. One that failed may begin anew anyway.
func Again(o *options) { o.again = true }

// Anew is Again by a person's order: what an execution left that could not tell its end to the target's ledger counts as
// failed, once its lease is over.
func Anew(o *options) { o.again, o.anew = true, true }

// WorkerHere says that the worker is in this process, so that the spec may name files.
func WorkerHere(o *options) { o.here = true }

// Start begins a migration and returns its id; an empty id is drawn, empty fields get their defaults. It refuses
// a spec that cannot work or must not travel (*migration.DefinitionError), and an id that is taken (*TakenError): it
// never joins, replaces or terminates a running migration.
func (s *Starter) Start(ctx context.Context, spec migration.Spec, opts ...Option) (migration.ID, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	spec.Defaults()
	if spec.ID == "" {
		spec.ID = migration.RandomID(spec.Name)
	}
	if err := validate(spec, o); err != nil {
		return "", err
	}
	_, err := s.client.ExecuteWorkflow(ctx, startOptions(spec, o), workflows.MigrationName, workflows.Input{Spec: spec, Again: o.anew})
	var taken *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &taken) {
		return "", &TakenError{ID: spec.ID}
	}
	if err != nil {
		return "", fmt.Errorf("start %s: %w", spec.ID, err)
	}
	return spec.ID, nil
}

func validate(spec migration.Spec, o options) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	if o.here {
		return spec.Secretless()
	}
	return spec.Portable()
}

func startOptions(spec migration.Spec, o options) client.StartWorkflowOptions {
	options := client.StartWorkflowOptions{
		ID:                                       string(spec.ID),
		TaskQueue:                                TaskQueue(spec),
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		StaticSummary:                            summary(spec),
		StaticDetails:                            details(spec),
		Memo: map[string]any{
			"name": spec.Name, "source": spec.Source.Address(), "target": spec.Target.Address(), "tags": spec.Tags,
		},
	}
	if o.again {
		options.WorkflowIDReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
	}
	return options
}

// TaskQueue is the queue that a migration's steps go to.
func TaskQueue(spec migration.Spec) string {
	if spec.TaskQueue != "" {
		return spec.TaskQueue
	}
	return workflows.DefaultTaskQueue
}

// summaryMax is what Temporal keeps of a summary, in bytes.
const summaryMax = 200

func summary(spec migration.Spec) string {
	text := spec.Source.Address() + " → " + spec.Target.Address()
	if len(text) > summaryMax {
		text = strings.ToValidUTF8(text[:summaryMax], "")
	}
	return text
}

// details is what Temporal's UI shows beside the workflow. Markdown.
func details(spec migration.Spec) string {
	var types []string
	for _, t := range spec.Types {
		types = append(types, string(t))
	}
	text := fmt.Sprintf("Moves the PostgreSQL database `%s` to `%s`.\n\n- types: %s\n- retry windows: connection %s, other %s\n",
		spec.Source.Address(), spec.Target.Address(), strings.Join(types, ", "), spec.Retry.Connection, spec.Retry.Other)
	live := fmt.Sprintf("\nThe current details are written when a phase ends or a person is needed. Live numbers (percent, time to go, latency): "+
		"`pgdts watch %s`, the heartbeats of the pending activities, and the metrics of the workers.\n", spec.ID)
	if !spec.Has(migration.TypeIncremental) {
		return text + "\nIt ends by itself.\n" + live
	}
	return text + fmt.Sprintf("- cutover: %s\n- slot on the source: `%s`\n\n"+
		"A terminated migration leaves its slot on the source, which holds WAL: use `pgdts stop %s`, or cancel.\n",
		spec.Cutover.Mode, spec.ID.Slot(), spec.ID) + live
}

// TakenError says that a migration with this id runs, or has ended well.
type TakenError struct{ ID migration.ID }

// Error is one sentence.
func (e *TakenError) Error() string {
	return fmt.Sprintf("migration %s runs already or has finished: see `pgdts status %s`", e.ID, e.ID)
}

// UnknownError says that Temporal knows no such migration.
type UnknownError struct{ ID string }

// Error is one sentence.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("no migration %q is known here: see `pgdts list`", e.ID)
}

// EndedError says that a migration has ended and takes no orders.
type EndedError struct {
	ID    migration.ID
	State string
}

// Error is one sentence.
func (e *EndedError) Error() string { return fmt.Sprintf("migration %s is %s", e.ID, e.State) }

// AwayError says that no worker answered in time.
type AwayError struct {
	ID        migration.ID
	TaskQueue string
}

// Error is one sentence with the remedy.
func (e *AwayError) Error() string {
	return fmt.Sprintf("no worker answers for migration %s: start one with `pgdts worker --task-queue %s`, or `pgdts run` again",
		e.ID, e.TaskQueue)
}
