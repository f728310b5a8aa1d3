package activities

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// Direct is the engine without Temporal: what a person asks of the two databases when no workflow runs, or beside one.
type Direct struct {
	Spec    migration.Spec
	Secrets Secrets
	Logger  *zap.Logger
}

func (d Direct) session() (*session, error) {
	logger := d.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	a := &Activities{Logger: logger, Secrets: d.Secrets}
	return a.session("direct", step.In{Spec: d.Spec}, func(migration.Beat) {})
}

// Check runs the precheck from here.
func (d Direct) Check(ctx context.Context) (migration.CheckResult, error) {
	s, err := d.session()
	if err != nil {
		return migration.CheckResult{}, err
	}
	return check(ctx, s, d.Spec.Precheck.Ignore)
}

// Tables reads how far every table is.
func (d Direct) Tables(ctx context.Context) (tables []migration.TableStatus, err error) {
	err = d.readLedger(ctx, func(l ledger.Ledger) error {
		tables, err = l.TableStatuses(ctx)
		return err
	})
	return tables, err
}

// Objects reads how the objects of the schema went: those in some states, or all.
func (d Direct) Objects(ctx context.Context, states ...string) (objects []migration.SchemaObject, err error) {
	err = d.readLedger(ctx, func(l ledger.Ledger) error {
		objects, err = l.ObjectStatuses(ctx, 0, states...)
		return err
	})
	return objects, err
}

// Report reads what was moved so far.
func (d Direct) Report(ctx context.Context) (report migration.Report, err error) {
	err = d.readLedger(ctx, func(l ledger.Ledger) error {
		report, err = l.Report(ctx)
		return err
	})
	return report, err
}

func (d Direct) readLedger(ctx context.Context, read func(ledger.Ledger) error) error {
	s, err := d.session()
	if err != nil {
		return err
	}
	return s.withLedger(ctx, d.Spec.ID.Session("report", 0), func(l ledger.Ledger) error {
		exists, err := ledger.Exists(ctx, l.Conn)
		if err == nil && exists {
			err = read(l)
		}
		if err == nil && !exists || errors.Is(err, ledger.ErrUnknown) {
			return migration.NewFault(migration.FaultInvalid, "read", string(d.Spec.ID), ledger.ErrUnknown, "")
		}
		return s.target.Fault("read ledger of", string(d.Spec.ID), err)
	})
}

// Release removes every trace of the migration from both servers. It returns what could not be removed.
func (d Direct) Release(ctx context.Context) ([]string, error) {
	s, err := d.session()
	if err != nil {
		return nil, err
	}
	return cutover.Release(ctx, s.cutover())
}

// Unfence lets writes back onto the source. It returns what it lifted.
func (d Direct) Unfence(ctx context.Context) ([]string, error) {
	s, err := d.session()
	if err != nil {
		return nil, err
	}
	return cutover.Unfence(ctx, s.source)
}

// Inspect reads what ledger and slot each believe.
func (d Direct) Inspect(ctx context.Context) (any, error) {
	s, err := d.session()
	if err != nil {
		return nil, err
	}
	return cutover.Inspect(ctx, s.source, s.target, d.Spec.ID)
}
