package activities

import (
	"context"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/workflows/migration"
)

// beginAnew clears away what an earlier execution left that failed, or was stopped before it was complete: what it has on
// the source, the rows and the indexes, constraints and triggers that it made on the target, and what the ledger says of
// its progress. The lease is ours already; the ledger tells that the migration has ended until all of this is done, so
// that an attempt which dies is followed by one that goes on. Nothing happens where nothing has ended.
//
// Slot and publications of both executions have the same names. Therefore every session of the earlier one is ended first,
// on both servers, and whatever it does later begins by asking who has the lease.
func (s *session) beginAnew(ctx context.Context, lane ledger.Lane) error {
	return s.withLedger(ctx, lane.Session(), func(l ledger.Ledger) error {
		known, err := l.Read(ctx)
		if err != nil || known.Ended == "" {
			return s.target.Fault("read ledger of", string(s.Spec.ID), err)
		}
		s.logger.Info("began anew", zap.String("ended", known.Ended))
		if err := s.endOthers(ctx, l, lane); err != nil {
			return err
		}
		if err := l.MayRestart(ctx); err != nil { // before anything is undone
			return s.target.Fault("begin anew with", string(s.Spec.ID), err)
		}
		owed, err := cutover.Cleanup(ctx, s.cutover(), cutover.Ending{})
		if err != nil {
			return err
		}
		if err := schema.Undo(ctx, s.schemaIn(lane)); err != nil {
			return err
		}
		err = l.Restart(ctx, lane, len(owed) == 0, s.report)
		return s.target.Fault("begin anew with", string(s.Spec.ID), err)
	})
}

func (s *session) endOthers(ctx context.Context, l ledger.Ledger, lane ledger.Lane) error {
	s.report(migration.Beat{Message: "ending what is left of the earlier attempt"})
	if err := lane.TerminateOthers(ctx, l.Conn); err != nil {
		return s.target.Fault("end earlier sessions of", string(s.Spec.ID), err)
	}
	return s.withSource(ctx, lane.Session(), func(conn *pgx.Conn) error {
		return s.source.Fault("end earlier sessions of", string(s.Spec.ID), lane.TerminateOthers(ctx, conn))
	})
}
