package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/workflows/migration"
)

// errUndecided is in the chain of an error that leaves it open whether the target was opened. Then the source must stay
// closed: lifting the fence of an opened target would let both sides be written.
var errUndecided = errors.New("whether the target was opened is not known")

// openTarget makes the objects of the opening, closes the source, and sets the tombstone, in this order; the first and the
// last are one transaction.
func (a *attempt) openTarget(ctx context.Context) error {
	a.at(stepOpen)
	a.say("", 0, 0)
	// Nothing follows that the stream would have to bring, and the opening waits for its transactions.
	a.endStream()
	conn, err := a.Target.Connect(ctx, a.lane.Session())
	if err != nil {
		return err
	}
	defer pg.Close(conn)
	if err := a.recordRefusal(ctx); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, prepareOpening, pgx.QueryExecModeSimpleProtocol); err != nil {
		return a.Target.Fault("prepare", "session", err)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return a.Target.Fault("begin", "opening", err)
	}
	if err := a.inOpening(ctx, tx); err != nil {
		_ = tx.Rollback(context.WithoutCancel(ctx))
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return a.decide(ctx, err)
	}
	a.opened()
	return nil
}

func (a *attempt) opened() {
	a.Logger.Info("opened the target", zap.Duration("write_blocked", a.evidence.WriteBlocked.D()))
}

func (a *attempt) refuses() bool {
	return a.Spec.Cutover.After == "block" && a.Spec.Cutover.Fence == "lock"
}

func (a *attempt) recordRefusal(ctx context.Context) error {
	if !a.refuses() {
		return nil
	}
	return a.record(ctx)
}

func (a *attempt) inOpening(ctx context.Context, tx pgx.Tx) error {
	if err := a.lane.BeginOpening(ctx, tx); err != nil {
		return a.Target.Fault("open", string(a.Spec.ID), err)
	}
	if err := a.makeOpeningObjects(ctx, tx); err != nil {
		return err
	}
	if err := a.noteRights(ctx, tx.Conn()); err != nil {
		return err
	}
	if a.refuses() {
		if err := a.refuse(ctx); err != nil {
			return err
		}
	}
	if err := failpoint.Hit(failpoint.CutoverBlocked); err != nil {
		return err
	}
	a.evidence.Opened = time.Now()
	if !a.blocked.IsZero() {
		a.evidence.WriteBlocked = migration.Duration(a.evidence.Opened.Sub(a.blocked).Round(time.Millisecond))
	}
	return a.Target.Fault("open", string(a.Spec.ID), a.lane.SetOpened(ctx, tx, a.evidence))
}

// decide finds out what became of a commit whose answer was lost: after the session's end it can not happen any more.
func (a *attempt) decide(ctx context.Context, lost error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
	defer cancel()
	opened, err := a.openedAfterAll(ctx)
	switch {
	case err != nil:
		fault := migration.NewFault(migration.FaultConnection, "open", string(a.Spec.ID), errors.Join(errUndecided, err),
			"the source stays closed until the target answers; the next attempt finds out")
		fault.Side = migration.Target
		return fault
	case opened:
		a.opened()
		return nil
	}
	return a.Target.Fault("open", string(a.Spec.ID), lost)
}

func (a *attempt) openedAfterAll(ctx context.Context) (bool, error) {
	lane, conn, err := enterLane(ctx, a.Config)
	if err != nil {
		return false, err
	}
	pg.Close(a.target)
	a.lane, a.target = lane, conn
	known, err := a.ledger().Read(ctx)
	return known.OpenedAt != nil, err
}

// prepareOpening sets what pg_dump's text expects: every name in it is qualified.
const prepareOpening = `
set search_path = '';
set check_function_bodies = off;
set client_min_messages = warning`

// makeOpeningObjects makes what would disturb the stream, in the transaction that ends it.
func (a *attempt) makeOpeningObjects(ctx context.Context, tx pgx.Tx) error {
	l := ledger.Ledger{ID: a.Spec.ID, Conn: tx.Conn()}
	skipped, err := l.SkipObjects(ctx, tx, append([]string{}, a.Skip...), "left out by order")
	if err != nil {
		return a.Target.Fault("leave out objects of", string(a.Spec.ID), err)
	}
	for _, object := range skipped {
		a.note("left out: %s: by order", object.Title())
	}
	objects, err := l.Objects(ctx, schema.Opening)
	if err != nil {
		return a.Target.Fault("read objects of", string(a.Spec.ID), err)
	}
	states, err := l.ObjectStates(ctx)
	if err != nil {
		return a.Target.Fault("read objects of", string(a.Spec.ID), err)
	}
	for i, object := range objects {
		if object.State == ledger.ObjectDone || object.State == ledger.ObjectSkipped {
			continue
		}
		a.say(object.Title(), i, len(objects))
		state, err := a.makeObject(ctx, tx, object, states)
		if err != nil {
			return err
		}
		states[object.DumpID] = state.state
		if err := l.SetObject(ctx, tx, object.No, state.state, state.sqlstate, state.message); err != nil {
			return a.Target.Fault("record", object.Title(), err)
		}
	}
	return nil
}

// disturbing kinds come into being at the opening where no session may keep them still.
var disturbing = []string{"FK CONSTRAINT", "TRIGGER"}

// noteRights says which way was taken because of what a role may not.
func (a *attempt) noteRights(ctx context.Context, conn *pgx.Conn) error {
	l := ledger.Ledger{ID: a.Spec.ID, Conn: conn}
	known, err := l.Read(ctx)
	if err != nil {
		return a.Target.Fault("read ledger", string(a.Spec.ID), err)
	}
	objects, err := l.Objects(ctx, schema.Opening)
	if err != nil {
		return a.Target.Fault("read objects of", string(a.Spec.ID), err)
	}
	late := 0
	for _, object := range objects {
		if slices.Contains(disturbing, object.Kind) {
			late++
		}
	}
	if !known.ReplicaRole && late > 0 {
		a.note("the role may not set session_replication_role on the target: %d foreign keys and triggers were created when it was "+
			"opened, and the foreign keys were checked after that", late)
	}
	if a.fence != nil && a.fence.prepared {
		a.note("the source was locked and closed by functions that an administrator had prepared for the role")
	}
	return nil
}

type objectOutcome struct{ state, sqlstate, message string }

// makeObject leaves out, with a note, what may be left out; anything else that fails gives the opening up.
func (a *attempt) makeObject(ctx context.Context, tx pgx.Tx, object ledger.Object, states map[int]string) (objectOutcome, error) {
	for _, id := range object.Depends {
		if state, known := states[id]; known && state != ledger.ObjectDone {
			a.note("left out: %s, which needs an object that is left out", object.Title())
			return objectOutcome{ledger.ObjectSkipped, "", "needs an object that is left out"}, nil
		}
	}
	part, err := tx.Begin(ctx)
	if err != nil {
		return objectOutcome{}, a.Target.Fault("create", object.Title(), err)
	}
	// The simple protocol takes several statements.
	_, err = tx.Conn().PgConn().Exec(ctx, object.DDL).ReadAll()
	if err == nil {
		return objectOutcome{state: ledger.ObjectDone}, a.Target.Fault("create", object.Title(), part.Commit(ctx))
	}
	var own *pgconn.PgError
	if !errors.As(err, &own) || a.Spec.Schema.OnObjectFailure != "skip" && !schema.MayLack(object.Kind, own.Code) {
		fault := migration.NewFault(migration.FaultNotReady, "create", object.Title(), err,
			fmt.Sprintf("repair the cause on the target and cut over again; or leave the object out: pgdts resume %s --ignore %d, and cut over",
				a.Spec.ID, object.No))
		fault.Side, fault.SQLState = migration.Target, pg.SQLState(err)
		if classified, ok := migration.AsFault(a.Target.Fault("create", object.Title(), err)); ok && classified.Kind == migration.FaultConnection {
			return objectOutcome{}, classified
		}
		if own != nil {
			fault.Message = own.Message
		}
		return objectOutcome{}, fault
	}
	if err := part.Rollback(ctx); err != nil {
		return objectOutcome{}, a.Target.Fault("create", object.Title(), err)
	}
	a.note("left out: %s: %s (SQLSTATE %s)", object.Title(), own.Message, own.Code)
	return objectOutcome{ledger.ObjectSkipped, own.Code, own.Message}, nil
}

// finish does what needs no pause of writes, when the target is open. What fails is noted and changes nothing.
func (a *attempt) finish(ctx context.Context) {
	a.at(stepOpen)
	a.fence.close()
	if a.Spec.Cutover.Fence == "read-only" && a.Spec.Cutover.After == "none" {
		if _, err := lift(ctx, a.Source, a.source, a.Spec.ID); err != nil {
			a.noteLate(ctx, fmt.Sprintf("the source is still read-only by default (%v): `pgdts unfence` lets writes back", err))
		}
	}
	a.say("validating foreign keys, refreshing materialized views", 0, 0)
	if err := makeAfter(ctx, a.Config, a.lane, a.relay); err != nil {
		a.noteLate(ctx, fmt.Sprintf("after the opening: %v", err))
	}
}

// noteLate is for notes that come after the evidence was recorded.
func (a *attempt) noteLate(ctx context.Context, text string) {
	a.note("%s", text)
	if err := a.ledger().AddNote(ctx, text); err != nil {
		a.Logger.Warn("could not record a note", zap.Error(err))
	}
}

// makeAfter validates what was made NOT VALID and fills what was filled too early; what fails is left out with a note.
func makeAfter(ctx context.Context, config Config, lane ledger.Lane, report func(migration.Beat)) error {
	_, _, err := schema.Create(ctx, schemaConfig(config, lane, report), schema.After, schema.Options{SkipFailed: true})
	return err
}

func schemaConfig(config Config, lane ledger.Lane, report func(migration.Beat)) schema.Config {
	return schema.Config{
		Source: config.Source, Target: config.Target, Lane: lane, Spec: config.Spec,
		Parallel: config.Spec.Parallel.Index, Report: report, Log: config.Logger,
	}
}
