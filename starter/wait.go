package starter

import (
	"context"
	"errors"

	"go.temporal.io/sdk/temporal"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Wait returns the report when the migration has ended. One that failed gives a *migration.Fault as error, and its
// report as far as there is one.
func (s *Starter) Wait(ctx context.Context, id migration.ID) (migration.Report, error) {
	report, err := s.result(ctx, id)
	if ctx.Err() != nil {
		return migration.Report{}, ctx.Err()
	}
	return report, err
}

func (s *Starter) result(ctx context.Context, id migration.ID) (migration.Report, error) {
	var report migration.Report
	err := s.client.GetWorkflow(ctx, string(id), "").Get(ctx, &report)
	if err == nil {
		return report, nil
	}
	var execution *temporal.WorkflowExecutionError
	if !errors.As(err, &execution) {
		return migration.Report{}, known(id, "wait for", err)
	}
	return failed(id, err)
}

// failed reads fault and report out of the failure of a workflow.
func failed(id migration.ID, err error) (migration.Report, error) {
	var application *temporal.ApplicationError
	if !errors.As(err, &application) {
		return migration.Report{}, migration.NewFault(migration.FaultStopped, "", "", errors.New("ended in Temporal without clean-up"),
			"the slot "+id.Slot()+" may still hold WAL on the source: `pgdts release -f FILE` removes it")
	}
	fault := &migration.Fault{}
	report := &migration.Report{}
	if !application.HasDetails() || application.Details(&fault, &report) != nil || fault == nil {
		fault = &migration.Fault{Kind: migration.FaultKind(application.Type()), Message: application.Message()}
	}
	if report == nil {
		report = &migration.Report{}
	}
	return *report, fault
}
