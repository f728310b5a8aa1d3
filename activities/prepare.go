package activities

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

const lanePrepare = "prepare"

// prepare makes the ledger, takes the lease, clears away what an attempt left that has ended, and lets the source keep
// its log from now on, where changes are to follow.
func prepare(ctx context.Context, s *session) (step.PrepareOut, error) {
	var out step.PrepareOut
	if err := s.withLedger(ctx, s.Spec.ID.Session(lanePrepare, 0), func(l ledger.Ledger) error {
		return s.acquire(ctx, l)
	}); err != nil {
		return out, err
	}
	lane, err := s.enter(ctx, lanePrepare)
	if err != nil {
		return out, err
	}
	if err := s.beginAnew(ctx, lane); err != nil {
		return out, err
	}
	tables, err := s.selected(ctx)
	out.Tables = len(tables)
	if err != nil || !s.Spec.Has(migration.TypeIncremental) {
		return out, err
	}
	out.Start, err = slot.Prepare(ctx, slot.Config{
		Source: s.source, Target: s.target, Lane: lane, Spec: s.Spec, Tables: tables, Report: s.report, Logger: s.logger,
	})
	out.Slot = s.Spec.ID.Slot()
	if s.Spec.Incremental.Slot != "" {
		out.Slot = s.Spec.Incremental.Slot
	}
	return out, err
}

// selected resolves the definition. What stands in its way now has come since the precheck, and a person must look.
func (s *session) selected(ctx context.Context) ([]mapping.Table, error) {
	var selected mapping.Selection
	err := s.withSource(ctx, s.Spec.ID.Session(lanePrepare, 0), func(conn *pgx.Conn) error {
		found, problems, err := mapping.Read(ctx, conn, s.Spec)
		if err != nil {
			return s.source.Fault("read tables", "", err)
		}
		for _, p := range problems {
			if !p.Alert {
				return migration.NewFault(migration.FaultDrift, "prepare", p.Object, errors.New(p.Text), p.Fix)
			}
		}
		selected = found
		return nil
	})
	return selected.Tables, err
}

// acquire creates the ledger where it is missing, takes the lease, and records what the role may.
func (s *session) acquire(ctx context.Context, l ledger.Ledger) error {
	if err := ledger.Create(ctx, l.Conn); err != nil {
		return s.target.Fault("create the ledger", "dts_sync", err)
	}
	if s.Again {
		if err := l.GiveUp(ctx, s.Run); err != nil {
			return s.target.Fault("give up the earlier attempt at", string(s.Spec.ID), err)
		}
	}
	if err := l.Acquire(ctx, s.Run, s.Spec); err != nil {
		return s.target.Fault("take the lease on", string(s.Spec.ID), err)
	}
	if err := l.SetThrottle(ctx, s.Spec.Throttle); err != nil {
		return s.target.Fault("record the rates of", string(s.Spec.ID), err)
	}
	replica, err := pg.TryReplicaRole(ctx, l.Conn)
	if err != nil {
		return s.target.Fault("probe session_replication_role", "", err)
	}
	_, err = l.Conn.Exec(ctx, "update dts_sync.migration set replica_role = $2 where id = $1", l.ID, replica)
	return s.target.Fault("record rights", "", err)
}

// enter takes a lane without keeping a session: the engine opens its own under the lane's name.
func (s *session) enter(ctx context.Context, name string) (lane ledger.Lane, err error) {
	err = s.inLane(ctx, name, func(_ ledger.Ledger, entered ledger.Lane) error {
		lane = entered
		return nil
	})
	return lane, err
}
