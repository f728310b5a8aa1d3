package activities

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/bulk"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
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

// createBefore reads the source's schema into the ledger and creates what the data needs. Where no rows are copied, the
// changes need the keys at once.
func createBefore(ctx context.Context, s *session, options schema.Options) (step.SchemaOut, error) {
	config, err := s.schema(ctx, "schema")
	if err != nil {
		return step.SchemaOut{}, err
	}
	if err := schema.Load(ctx, config); err != nil {
		return step.SchemaOut{}, err
	}
	sections := []string{schema.Before}
	if !s.Spec.Has(migration.TypeFull) {
		sections = append(sections, schema.Key, schema.Index)
	}
	return create(ctx, s, config, options, sections...)
}

// createConstraints creates what waits for the data: unique indexes, foreign keys, triggers, policies.
func createConstraints(ctx context.Context, s *session, options schema.Options) (step.SchemaOut, error) {
	config, err := s.schema(ctx, "constraints")
	if err != nil {
		return step.SchemaOut{}, err
	}
	return create(ctx, s, config, options, schema.Constraint)
}

// create makes the objects of some sections, one after the other, and tells how all objects stand, also beside a fault that
// is about them.
func create(ctx context.Context, s *session, config schema.Config, options schema.Options, sections ...string) (step.SchemaOut, error) {
	var out step.SchemaOut
	for _, section := range sections {
		before, err := s.objects(ctx)
		if err != nil {
			return out, err
		}
		config.Report = counting(before, s.report)
		counts, deferred, err := schema.Create(ctx, config, section, options)
		if err != nil {
			return out, s.withObjects(ctx, err)
		}
		out.Done, out.Failed, out.Skipped = out.Done+counts.Done, out.Failed+counts.Failed, out.Skipped+counts.Skipped
		out.Deferred = deferred
	}
	var err error
	out.Objects, err = s.objects(ctx)
	return out, err
}

// counting adds to reports about a section how the objects of all sections stand.
func counting(before migration.ObjectStatus, report func(migration.Beat)) func(migration.Beat) {
	var mu sync.Mutex
	var first *int64
	return func(beat migration.Beat) {
		mu.Lock()
		if first == nil {
			first = &beat.Done
		}
		more := min(int(beat.Done-*first), before.Pending)
		mu.Unlock()
		beat.Objects = &migration.ObjectStatus{
			Pending: before.Pending - more, Done: before.Done + more, Failed: before.Failed, Skipped: before.Skipped,
		}
		report(beat)
	}
}

// withObjects adds to a fault about objects which they are.
func (s *session) withObjects(ctx context.Context, err error) error {
	fault, ok := migration.AsFault(err)
	if !ok || fault.Kind != migration.FaultObject {
		return err
	}
	if objects, readErr := s.objects(ctx); readErr == nil {
		fault.Objects = &objects
	}
	return fault
}

// objects reads how the objects of the schema stand.
func (s *session) objects(ctx context.Context) (status migration.ObjectStatus, err error) {
	err = s.withLedger(ctx, s.Spec.ID.Session("report", 0), func(l ledger.Ledger) error {
		status, err = l.ObjectStatus(ctx)
		return s.target.Fault("read objects of", string(s.Spec.ID), err)
	})
	return status, err
}

// schema enters a lane and describes how objects are made in it.
func (s *session) schema(ctx context.Context, laneName string) (schema.Config, error) {
	lane, err := s.enter(ctx, laneName)
	return s.schemaIn(lane), err
}

func (s *session) schemaIn(lane ledger.Lane) schema.Config {
	return schema.Config{
		Source: s.source, Target: s.target, Lane: lane, Spec: s.Spec, Parallel: s.Spec.Parallel.Index,
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
	config, leave, err := s.gated(ctx)
	if err != nil {
		return step.PlanOut{}, err
	}
	defer leave()
	planned, err := bulk.Plan(ctx, config, lane, s.report)
	return step.PlanOut{
		Tables: planned.Tables, Chunks: planned.Chunks, Rows: planned.Rows, Bytes: planned.Bytes, Lanes: planned.Lanes,
	}, err
}

// hold keeps the snapshot of the copy until ctx ends. What it has done is the minutes that it held: a snapshot that is lost
// again and again at once is no progress.
func hold(ctx context.Context, s *session) (struct{}, error) {
	lane, err := s.enter(ctx, "hold")
	if err != nil {
		return struct{}{}, err
	}
	begun := time.Now()
	return struct{}{}, bulk.Hold(ctx, s.bulk(), lane, func(beat migration.Beat) {
		beat.Done = int64(time.Since(begun) / time.Minute)
		s.report(beat)
	})
}

// copyLane claims chunks, and finishes tables, until all of them are done, or others do what is left.
func copyLane(ctx context.Context, s *session, in step.CopyIn) (step.CopyOut, error) {
	lane, err := s.enter(ctx, fmt.Sprintf("copy-%d", in.Lane))
	if err != nil {
		return step.CopyOut{}, err
	}
	creator := schema.NewCreator(s.schemaIn(lane))
	defer creator.Close()
	config, leave, err := s.gated(ctx)
	if err != nil {
		return step.CopyOut{}, err
	}
	defer leave()
	config.Patience = in.Patience.D()
	copied, err := bulk.Run(ctx, config, lane, creator, s.report)
	out := step.CopyOut{Left: copied.Left, Chunks: copied.Chunks, Rows: copied.Rows, Bytes: copied.Bytes}
	if err == nil {
		out.All, err = s.copied(ctx)
	}
	return out, err
}

// endLanes ends what lanes have left on the source that did not see the end of the copy: a frozen one may hold a snapshot there,
// for which the source keeps dead rows. Nobody comes back to such a lane.
func endLanes(ctx context.Context, s *session) error {
	return s.withSource(ctx, s.Spec.ID.Session("catchup", 0), func(conn *pgx.Conn) error {
		_, err := pg.Terminate(ctx, conn, strings.TrimSuffix(s.Spec.ID.SessionPrefix("copy-"), "/"))
		return s.source.Fault("end sessions of", "the copy", err)
	})
}
