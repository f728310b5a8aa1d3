package activities

import (
	"context"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

func (s *session) cutover() cutover.Config {
	return cutover.Config{
		Source: s.source, Target: s.target, Spec: s.Spec, Run: s.Run, Report: s.report, Logger: s.logger,
	}
}

// cutOver moves the writes.
func cutOver(ctx context.Context, s *session, skip []string) (step.CutoverOut, error) {
	config := s.cutover()
	config.Skip = skip
	gate, leave, err := s.gates.Enter(ctx, s.target, s.Spec.ID, migration.TypeIncremental, s.logger)
	if err != nil {
		return step.CutoverOut{}, err
	}
	defer leave()
	config.Gate = gate
	evidence, err := cutover.Run(ctx, config)
	out := step.CutoverOut{
		Opened: evidence.Opened, WriteBlocked: evidence.WriteBlocked, Verified: evidence.Verified,
		Verdicts: evidence.Verdicts, Sequences: evidence.Sequences, Changes: evidence.Changes, Notes: evidence.Notes,
	}
	if err == nil {
		out.Objects = s.objectsAtEnd(ctx)
	}
	return out, err
}

// settle ends a migration that is not cut over.
func settle(ctx context.Context, s *session, skip []string) (step.SettleOut, error) {
	config := s.cutover()
	config.Skip = skip
	evidence, err := cutover.Settle(ctx, config)
	if err != nil {
		return step.SettleOut{}, s.withObjects(ctx, err)
	}
	return step.SettleOut{Sequences: evidence.Sequences, Notes: evidence.Notes, Objects: s.objectsAtEnd(ctx)}, nil
}

// objectsAtEnd is for display alone: what has ended well must not fail for it.
func (s *session) objectsAtEnd(ctx context.Context) migration.ObjectStatus {
	status, err := s.objects(ctx)
	if err != nil {
		s.logger.Warn("could not read how the objects stand", zap.Error(err))
	}
	return status
}

// cleanup removes what is ours from the source and marks the ledger.
func cleanup(ctx context.Context, s *session, in step.CleanupIn) (step.CleanupOut, error) {
	owed, err := cutover.Cleanup(ctx, s.cutover(), cutover.Ending{End: in.End, KeepSlot: in.KeepSlot, RemoveLedger: in.Ledger})
	return step.CleanupOut{Owed: owed}, err
}

// summary reads the figures of the report.
func summary(ctx context.Context, s *session) (report migration.Report, err error) {
	err = s.withLedger(ctx, s.Spec.ID.Session("report", 0), func(l ledger.Ledger) error {
		report, err = l.Report(ctx)
		return s.target.Fault("read ledger of", string(s.Spec.ID), err)
	})
	return report, err
}
