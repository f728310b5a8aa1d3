package activities

import (
	"context"
	"fmt"

	"github.com/pgdts/pgdts/activities/internal/bulk"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/precheck"
	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// check looks at both servers; ignored alerts do not block.
func check(ctx context.Context, s *session, ignore []string) (migration.CheckResult, error) {
	items, err := precheck.Run(ctx, precheck.Config{Source: s.source, Target: s.target, Spec: s.Spec, Logger: s.logger})
	if err != nil {
		return migration.CheckResult{}, err
	}
	return migration.NewCheckResult(items, ignore), nil
}

// createBefore reads the source's schema into the ledger and creates what the data needs.
func createBefore(ctx context.Context, s *session, skipFailed bool) (step.SchemaOut, error) {
	config, err := s.schema(ctx, "schema")
	if err != nil {
		return step.SchemaOut{}, err
	}
	if err := schema.Load(ctx, config); err != nil {
		return step.SchemaOut{}, err
	}
	return create(ctx, config, schema.Before, skipFailed)
}

// createConstraints creates what waits for the data: unique indexes, foreign keys, triggers, policies.
func createConstraints(ctx context.Context, s *session, skipFailed bool) (step.SchemaOut, error) {
	config, err := s.schema(ctx, "constraints")
	if err != nil {
		return step.SchemaOut{}, err
	}
	return create(ctx, config, schema.Constraint, skipFailed)
}

func create(ctx context.Context, config schema.Config, section string, skipFailed bool) (step.SchemaOut, error) {
	counts, deferred, err := schema.Create(ctx, config, section, schema.Options{SkipFailed: skipFailed})
	return step.SchemaOut{ObjectCounts: counts, Deferred: deferred}, err
}

// schema enters a lane and describes how objects are made in it.
func (s *session) schema(ctx context.Context, laneName string) (schema.Config, error) {
	lane, err := s.enter(ctx, laneName)
	return s.schemaIn(lane), err
}

func (s *session) schemaIn(lane ledger.Lane) schema.Config {
	return schema.Config{
		Source: s.source, Target: s.target, Lane: lane, Policy: s.Spec.Schema, Parallel: s.Spec.Parallel.Index,
		Report: s.report, Log: s.logger,
	}
}

func (s *session) bulk() bulk.Config {
	return bulk.Config{Spec: s.Spec, Source: s.source, Target: s.target, Log: s.logger}
}

// plan cuts the tables into chunks.
func plan(ctx context.Context, s *session) (step.PlanOut, error) {
	lane, err := s.enter(ctx, "plan")
	if err != nil {
		return step.PlanOut{}, err
	}
	planned, err := bulk.Plan(ctx, s.bulk(), lane, s.report)
	return step.PlanOut{
		Tables: planned.Tables, Chunks: planned.Chunks, Rows: planned.Rows, Bytes: planned.Bytes, Lanes: planned.Lanes,
	}, err
}

// copyLane claims chunks, and finishes tables, until all of them are done.
func copyLane(ctx context.Context, s *session, number int) (step.CopyOut, error) {
	lane, err := s.enter(ctx, fmt.Sprintf("copy-%d", number))
	if err != nil {
		return step.CopyOut{}, err
	}
	copied, err := bulk.Run(ctx, s.bulk(), lane, schema.NewCreator(s.schemaIn(lane)), s.report)
	return step.CopyOut{Chunks: copied.Chunks, Rows: copied.Rows, Bytes: copied.Bytes}, err
}
