package worker

import (
	"context"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Check runs the precheck from this process. It changes nothing on either server.
func Check(ctx context.Context, spec migration.Spec, secrets activities.Secrets, logger *zap.Logger) (migration.CheckResult, error) {
	return activities.Direct{Spec: spec, Secrets: secrets, Logger: logger}.Check(ctx)
}

// Tables reads from the target's ledger how far every table is.
func Tables(ctx context.Context, spec migration.Spec, secrets activities.Secrets) ([]migration.TableStatus, error) {
	return activities.Direct{Spec: spec, Secrets: secrets}.Tables(ctx)
}

// Objects reads from the target's ledger how the objects of the schema went: those in some states, or all. Failed ones come
// first, then those that were left out.
func Objects(ctx context.Context, spec migration.Spec, secrets activities.Secrets, states ...string) ([]migration.SchemaObject, error) {
	return activities.Direct{Spec: spec, Secrets: secrets}.Objects(ctx, states...)
}

// Report reads from the target's ledger what was moved so far.
func Report(ctx context.Context, spec migration.Spec, secrets activities.Secrets) (migration.Report, error) {
	return activities.Direct{Spec: spec, Secrets: secrets}.Report(ctx)
}

// Release removes every trace of a migration from both servers when its workflow is gone. It returns, as commands, what
// could not be removed.
func Release(ctx context.Context, spec migration.Spec, secrets activities.Secrets, logger *zap.Logger) ([]string, error) {
	return activities.Direct{Spec: spec, Secrets: secrets, Logger: logger}.Release(ctx)
}

// Unfence lets writes back onto a source that a cutover closed. It returns what it lifted.
func Unfence(ctx context.Context, spec migration.Spec, secrets activities.Secrets, logger *zap.Logger) ([]string, error) {
	return activities.Direct{Spec: spec, Secrets: secrets, Logger: logger}.Unfence(ctx)
}

// Inspect reads what the ledger and the slot each believe.
func Inspect(ctx context.Context, spec migration.Spec, secrets activities.Secrets, logger *zap.Logger) (any, error) {
	return activities.Direct{Spec: spec, Secrets: secrets, Logger: logger}.Inspect(ctx)
}
