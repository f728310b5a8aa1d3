package workflows

import (
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// CleanupName is the workflow that removes what could not be removed while the source was down.
const CleanupName = "Cleanup"

// cleanupPatience bounds how long the end of a migration waits for a source that does not answer.
const cleanupPatience = 30 * time.Second

// cleanup removes our objects from the source. What a silent source keeps goes to a workflow of its own with its own
// window, and is said in the report as owed.
func (m *run) cleanup(end migration.Phase, ledger bool) []string {
	in := step.CleanupIn{
		In: m.in, End: end, Ledger: ledger,
		KeepSlot: end == migration.PhaseFailed && m.spec.OnFailure == migration.KeepSlot && m.spec.Has(migration.TypeIncremental),
	}
	once := step.Cleanup
	once.Options.ScheduleToCloseTimeout = cleanupPatience
	once.Options.RetryPolicy = &temporal.RetryPolicy{InitialInterval: time.Second, MaximumInterval: 5 * time.Second}
	out, err := once.Run(m.ctx, in)
	if err == nil {
		return out.Owed
	}
	owed := "slot " + m.spec.ID.Slot() + " and our publications may still be on the source: `pgdts release` removes them"
	if !m.spec.Has(migration.TypeIncremental) {
		owed = "the end could not be written into the target's ledger: `pgdts release` removes what is left of it"
	}
	if m.startCleanup(in) != nil {
		return []string{owed}
	}
	return []string{owed + "; this is tried for " + m.Windows.Connection.String()}
}

func (m *run) startCleanup(in step.CleanupIn) error {
	ctx := workflow.WithChildOptions(m.ctx, workflow.ChildWorkflowOptions{
		WorkflowID:        string(m.spec.ID) + "/cleanup",
		ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:     "remove slot and publications when the source answers again",
	})
	child := workflow.ExecuteChildWorkflow(ctx, CleanupName, CleanupInput{Cleanup: in, Window: m.Windows.Connection})
	return child.GetChildWorkflowExecution().Get(ctx, nil)
}

// CleanupInput is what is owed, and for how long it is tried.
type CleanupInput struct {
	Cleanup step.CleanupIn     `json:"cleanup"`
	Window  migration.Duration `json:"window"`
}

// Cleanup outlives a failed migration: it waits for the source inside its window and removes what is owed.
func Cleanup(ctx workflow.Context, in CleanupInput) (step.CleanupOut, error) {
	patient := step.Cleanup
	patient.Options.ScheduleToCloseTimeout = in.Window.D()
	patient.Options.RetryPolicy = &temporal.RetryPolicy{
		InitialInterval: time.Second, BackoffCoefficient: 1.5, MaximumInterval: 30 * time.Second,
		NonRetryableErrorTypes: []string{string(migration.FaultFenced), string(migration.FaultInvalid)},
	}
	return patient.Run(ctx, in.Cleanup)
}

// summarize reads the figures from the ledger; without them the report still says how it ended.
func (m *run) summarize(end migration.Phase, notes []string) {
	once := step.Summary
	once.Options.ScheduleToCloseTimeout = cleanupPatience
	once.Options.RetryPolicy = &temporal.RetryPolicy{MaximumAttempts: 3}
	report, err := once.Run(m.ctx, m.in)
	if err != nil {
		report = migration.Report{}
		if end != migration.PhaseFailed || m.Plan.Tables > 0 {
			notes = append(notes, "the target's ledger could not be read for the figures of this report")
		}
	}
	report.ID, report.Name, report.State = m.spec.ID, m.spec.Name, end
	report.Source, report.Target, report.Types = m.spec.Source.Address(), m.spec.Target.Address(), m.spec.Types
	report.Started, report.Finished = m.Started, workflow.Now(m.ctx)
	report.WriteBlocked, report.Verified = m.Evidence.WriteBlocked, m.Evidence.Verified
	report.Sequences = m.Evidence.Sequences
	if len(m.Evidence.Verdicts) > 0 {
		report.Verdicts = m.Evidence.Verdicts
	}
	for _, note := range slices.Concat(m.Evidence.Notes, notes) {
		if !slices.Contains(report.Notes, note) {
			report.Notes = append(report.Notes, note)
		}
	}
	report.Failure = m.Cause
	m.Report = &report
}
