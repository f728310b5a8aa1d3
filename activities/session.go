package activities

import (
	"context"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/throttle"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// Secrets are what this process knows beside a definition. They never leave it.
type Secrets = *migration.Secrets

// Activities holds what all steps share on this worker.
type Activities struct {
	Logger  *zap.Logger
	Secrets Secrets
	// Observe, if set, sees every report of every step on this worker at once, before Temporal throttles it.
	Observe func(migration.Beat)

	gates throttle.Shared
}

// session is one attempt at a step.
type session struct {
	step.In
	source, target *pg.Server
	logger         *zap.Logger
	report         func(migration.Beat)
	gates          *throttle.Shared
}

func (a *Activities) session(name string, in step.In, report func(migration.Beat)) (*session, error) {
	if a.Secrets != nil && a.Secrets.Foreign {
		if err := in.Spec.Portable(); err != nil {
			return nil, migration.NewFault(migration.FaultInvalid, "read", "definition", err, "")
		}
	}
	source, err := pg.NewServer(migration.Source, in.Spec.Source, a.Secrets)
	if err != nil {
		return nil, err
	}
	target, err := pg.NewServer(migration.Target, in.Spec.Target, a.Secrets)
	if err != nil {
		return nil, err
	}
	logger := a.Logger.With(zap.String(migration.KeyMigration, string(in.Spec.ID)), zap.String(migration.KeyStep, name))
	return &session{In: in, source: source, target: target, logger: logger, report: report, gates: &a.gates}, nil
}

// withLedger runs work with a session on the target that reads and writes the migration's ledger rows.
func (s *session) withLedger(ctx context.Context, application string, work func(ledger.Ledger) error) error {
	conn, err := s.target.Connect(ctx, application)
	if err != nil {
		return err
	}
	defer pg.Close(conn)
	return work(ledger.Ledger{ID: s.Spec.ID, Conn: conn})
}

// inLane takes a lane, ends what earlier attempts at it left on both servers, and runs work.
func (s *session) inLane(ctx context.Context, name string, work func(ledger.Ledger, ledger.Lane) error) error {
	return s.withLedger(ctx, s.Spec.ID.Session(name, 0), func(l ledger.Ledger) error {
		lane, err := l.Enter(ctx, s.Run, name)
		if err != nil {
			return s.target.Fault("enter lane", name, err)
		}
		return s.withSource(ctx, lane.Session(), func(conn *pgx.Conn) error {
			if err := lane.TerminateEarlier(ctx, conn); err != nil {
				return s.source.Fault("enter lane", name, err)
			}
			return work(l, lane)
		})
	})
}

// withSource runs work with a session on the source.
func (s *session) withSource(ctx context.Context, application string, work func(*pgx.Conn) error) error {
	conn, err := s.source.Connect(ctx, application)
	if err != nil {
		return err
	}
	defer pg.Close(conn)
	return work(conn)
}
