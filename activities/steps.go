package activities

import (
	"context"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// Precheck looks at both servers and changes nothing.
func (a *Activities) Precheck(ctx context.Context, in step.PrecheckIn) (migration.CheckResult, error) {
	return attempt(ctx, a, "precheck", in.In, func(ctx context.Context, s *session) (migration.CheckResult, error) {
		return check(ctx, s, in.Ignore)
	})
}

// Prepare creates ledger, publications and slot; without incremental the ledger alone.
func (a *Activities) Prepare(ctx context.Context, in step.In) (step.PrepareOut, error) {
	return attempt(ctx, a, "prepare", in, prepare)
}

// Schema creates the objects that stand before the data.
func (a *Activities) Schema(ctx context.Context, in step.SchemaIn) (step.SchemaOut, error) {
	return attempt(ctx, a, "schema", in.In, func(ctx context.Context, s *session) (step.SchemaOut, error) {
		return createBefore(ctx, s, options(in))
	})
}

func options(in step.SchemaIn) schema.Options {
	return schema.Options{SkipFailed: in.SkipFailed, Skip: in.Skip}
}

// Plan cuts the tables into chunks.
func (a *Activities) Plan(ctx context.Context, in step.In) (step.PlanOut, error) {
	return attempt(ctx, a, "plan", in, plan)
}

// Hold keeps the snapshot of the copy until it is cancelled.
func (a *Activities) Hold(ctx context.Context, in step.In) (struct{}, error) {
	return attempt(ctx, a, "hold", in, hold)
}

// Copy claims chunks and tables until none is left.
func (a *Activities) Copy(ctx context.Context, in step.CopyIn) (step.CopyOut, error) {
	return attempt(ctx, a, "copy", in.In, func(ctx context.Context, s *session) (step.CopyOut, error) {
		return copyLane(ctx, s, in)
	})
}

// Stream applies changes until its goal.
func (a *Activities) Stream(ctx context.Context, in step.StreamIn) (step.StreamOut, error) {
	return attempt(ctx, a, "stream", in.In, func(ctx context.Context, s *session) (step.StreamOut, error) {
		return stream(ctx, s, in.Goal)
	})
}

// Watch looks after slot and lease until it is cancelled.
func (a *Activities) Watch(ctx context.Context, in step.In) (struct{}, error) {
	return attempt(ctx, a, "watch", in, watch)
}

// Constraints creates unique indexes, foreign keys, triggers and policies.
func (a *Activities) Constraints(ctx context.Context, in step.SchemaIn) (step.SchemaOut, error) {
	return attempt(ctx, a, "constraints", in.In, func(ctx context.Context, s *session) (step.SchemaOut, error) {
		return createConstraints(ctx, s, options(in))
	})
}

// Cutover moves the writes to the target.
func (a *Activities) Cutover(ctx context.Context, in step.EndIn) (step.CutoverOut, error) {
	return attempt(ctx, a, "cutover", in.In, func(ctx context.Context, s *session) (step.CutoverOut, error) {
		return cutOver(ctx, s, in.Skip)
	})
}

// Settle sets sequences and creates what was deferred, for an end without cutover.
func (a *Activities) Settle(ctx context.Context, in step.EndIn) (step.SettleOut, error) {
	return attempt(ctx, a, "settle", in.In, func(ctx context.Context, s *session) (step.SettleOut, error) {
		return settle(ctx, s, in.Skip)
	})
}

// Cleanup removes our objects from the source and marks the ledger.
func (a *Activities) Cleanup(ctx context.Context, in step.CleanupIn) (step.CleanupOut, error) {
	return attempt(ctx, a, "cleanup", in.In, func(ctx context.Context, s *session) (step.CleanupOut, error) {
		return cleanup(ctx, s, in)
	})
}

// Summary reads the report's figures from the ledger.
func (a *Activities) Summary(ctx context.Context, in step.In) (migration.Report, error) {
	return attempt(ctx, a, "summary", in, summary)
}

// Probe connects to both servers once.
func (a *Activities) Probe(ctx context.Context, in step.ProbeIn) (struct{}, error) {
	return attempt(ctx, a, "probe", step.In{Spec: in.Spec}, probe)
}
