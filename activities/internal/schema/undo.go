package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Undo prepares the target's schema for a migration that begins anew. It drops, in reverse order, what the earlier attempt
// has made in the sections behind Before, and nothing else: where something that is not ours depends on it, it fails. Then
// it reads the source's schema again. What was made before the data stays, and counts as made, if the source still says
// the same; if not, Undo fails by naming it. What somebody has dropped is made again.
//
// Each drop commits with its object's state, and the new reading in one transaction, so that a call which died is
// followed by one that goes on.
func Undo(ctx context.Context, cfg Config) error {
	s, err := cfg.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	objects, err := s.Objects(ctx)
	if err != nil {
		return cfg.Target.Fault("read the ledger of", string(s.ID), err)
	}
	if err := s.undoAll(ctx, objects); err != nil {
		return err
	}
	return s.readAgain(ctx, objects)
}

// undoAll goes backwards, again and again while something comes of it: an index of a partition falls with that of its
// root, wherever that stands.
func (s *session) undoAll(ctx context.Context, objects []ledger.Object) error {
	var todo []ledger.Object
	for _, o := range slices.Backward(objects) {
		if o.Section != Before && o.State == ledger.ObjectDone && o.Message != ledger.WasThere {
			todo = append(todo, o)
		}
	}
	for done, total := 0, len(todo); len(todo) > 0; {
		var left []ledger.Object
		var own *objectError
		for _, o := range todo {
			s.cfg.Report(beat("dropping "+o.Title(), done, total))
			err := s.undo(ctx, o)
			switch {
			case err == nil:
				done++
			case errors.As(err, &own):
				left = append(left, o)
			default:
				return s.cfg.Target.Fault("drop", o.Title(), err)
			}
		}
		if len(left) == len(todo) {
			return s.undoFault(left[len(left)-1], own)
		}
		todo = left
	}
	return nil
}

func (s *session) undoFault(o ledger.Object, own *objectError) error {
	fault := migration.NewFault(migration.FaultObject, "drop", o.Title(), errors.New(own.err.Message),
		fmt.Sprintf("the migration made it and has to make it anew, but something that it did not make stands in the way: "+
			"remove that from the target; or `pgdts release %s` and choose an empty database", s.ID))
	fault.Side, fault.SQLState = migration.Target, own.err.Code
	return fault
}

// gone are the states by which a server says that what is to be dropped, or what it is part of, is not there.
var gone = []string{"42704", "42P01", "42883", "42703", "3F000"}

// undo drops one object and records it as pending, in one transaction.
func (s *session) undo(ctx context.Context, o ledger.Object) error {
	tx, err := s.Conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := s.cfg.Lane.Guard(ctx, tx); err != nil {
		return err
	}
	if state, err := s.LockObject(ctx, tx, o.No); err != nil || state != ledger.ObjectDone {
		return err
	}
	if o.Undo != "" {
		_, err := s.Conn.PgConn().Exec(ctx, o.Undo).ReadAll()
		if slices.Contains(gone, pg.SQLState(err)) {
			if err := tx.Rollback(ctx); err != nil {
				return err
			}
			return s.record(ctx, ledger.Object{No: o.No, Section: o.Section, State: ledger.ObjectPending})
		}
		if err != nil {
			return ownFailure(err)
		}
	}
	if err := s.SetObject(ctx, tx, o.No, ledger.ObjectPending, "", ""); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.UndoObject); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// readAgain replaces the objects by a new reading of the source. Without an earlier one it leaves that to Load.
func (s *session) readAgain(ctx context.Context, old []ledger.Object) error {
	if len(old) == 0 {
		return nil
	}
	made := map[migration.TableName]bool{}
	for _, o := range old {
		if o.Section == Before && o.State == ledger.ObjectDone && o.Message != ledger.WasThere {
			made[migration.TableName{Schema: o.Schema, Name: o.Name}] = true
		}
	}
	fresh, err := readPlan(ctx, s.cfg, s.Ledger, made)
	if err != nil {
		return err
	}
	if err := s.match(ctx, old, fresh); err != nil {
		return s.cfg.Target.Fault("look at", "what is there", err)
	}
	err = pgx.BeginFunc(ctx, s.Conn, func(tx pgx.Tx) error {
		if err := s.cfg.Lane.Guard(ctx, tx); err != nil {
			return err
		}
		if err := s.ForgetObjects(ctx, tx); err != nil {
			return err
		}
		return fresh.write(ctx, tx, s.Ledger)
	})
	if err != nil {
		return s.cfg.Target.Fault("record", "schema objects", err)
	}
	s.cfg.Log.Info("schema was read again", zap.Int("objects", len(fresh.objects)))
	return nil
}

// identity tells objects of two readings apart: operators of one name differ in what drops them only.
type identity struct{ kind, schema, name, undo string }

func identityOf(o ledger.Object) identity { return identity{o.Kind, o.Schema, o.Name, o.Undo} }

// match marks as done what the earlier reading has made before the data and what is still there as the source has it.
func (s *session) match(ctx context.Context, old []ledger.Object, fresh plan) error {
	relations, err := s.relations(ctx)
	if err != nil {
		return err
	}
	made := map[identity]ledger.Object{}
	for _, o := range old {
		if o.Section == Before && o.State == ledger.ObjectDone && o.Message != ledger.WasThere {
			made[identityOf(o)] = o
		}
	}
	redone := map[int]bool{} // by DumpID: what somebody has dropped
	for i := range fresh.objects {
		o := &fresh.objects[i]
		before, known := made[identityOf(*o)]
		if !known || o.Section != Before {
			continue
		}
		delete(made, identityOf(*o))
		if o.State != ledger.ObjectPending {
			continue // a schema that is there, or left out
		}
		if err := s.matchOne(ctx, before, o, relations, redone); err != nil {
			return err
		}
	}
	fresh.wrapLate()
	for _, o := range old {
		if _, left := made[identityOf(o)]; !left || o.Undo == "" || attached(o.Kind) {
			continue
		}
		if there, err := s.there(ctx, o, relations, true); err != nil || there {
			return cmp.Or(err, s.changed(o, "is not in the source any more"))
		}
	}
	return nil
}

func (s *session) matchOne(ctx context.Context, before ledger.Object, o *ledger.Object, relations map[migration.TableName]bool,
	redone map[int]bool,
) error {
	same := comparableText(before.DDL) == comparableText(o.DDL)
	orphaned := slices.ContainsFunc(o.Depends, func(id int) bool { return redone[id] })
	if o.Kind == kindColumns {
		// It goes with its table, and stays when something else is made once more.
		orphaned = !relations[migration.TableName{Schema: o.Schema, Name: o.Name}]
	}
	there, err := s.there(ctx, before, relations, orphaned || !same)
	switch {
	case err != nil:
		return err
	case !there || orphaned && o.Undo == "":
		redone[o.DumpID] = true
	case same:
		o.State = ledger.ObjectDone
	case !attached(o.Kind): // a comment is made once more
		return s.changed(before, "is not what the source has now")
	}
	return nil
}

// wrapLate lets what is made once more, before the data, meet columns that have their new names already.
func (p plan) wrapLate() {
	shaped := map[migration.TableName]bool{}
	for _, o := range p.objects {
		if o.Kind == kindColumns && o.State == ledger.ObjectDone {
			shaped[migration.TableName{Schema: o.Schema, Name: o.Name}] = true
		}
	}
	for i, o := range p.objects {
		late, ok := p.wrapped[o.DumpID]
		if ok && o.State == ledger.ObjectPending && !slices.ContainsFunc(late.tables, func(t migration.TableName) bool { return !shaped[t] }) {
			p.objects[i].DDL = late.ddl
		}
	}
}

func (s *session) changed(o ledger.Object, how string) error {
	fault := migration.NewFault(migration.FaultObject, "begin anew with", o.Title(),
		fmt.Errorf("the earlier attempt made it on the target, and it %s", how),
		fmt.Sprintf("if nothing of it is needed any more, on the target: %s; or `pgdts release %s` and choose an empty database",
			cascading(o.Undo), s.ID))
	fault.Side = migration.Target
	return fault
}

// cascading is a statement for a person who decides about what depends on the object.
func cascading(undo string) string { return strings.TrimSuffix(undo, ";") + " cascade" }

// identityLine sets the replica identity, which the migration itself changes on the source for a while.
var identityLine = regexp.MustCompile(`(?im)^alter table only .* replica identity [^\n]*;$\n?`)

func comparableText(ddl string) string {
	return strings.TrimSpace(identityLine.ReplaceAllString(ddl, ""))
}

const readRelationNames = `
select n.nspname::text, c.relname::text
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')`

func (s *session) relations(ctx context.Context) (map[migration.TableName]bool, error) {
	rows, err := s.Conn.Query(ctx, readRelationNames)
	if err != nil {
		return nil, err
	}
	names := map[migration.TableName]bool{}
	var name migration.TableName
	_, err = pgx.ForEachRow(rows, []any{&name.Schema, &name.Name}, func() error { names[name] = true; return nil })
	return names, err
}

// there reports whether what was made is still on the target. What is no relation is only asked for when there is reason
// to doubt it: by dropping it, in a transaction that is rolled back.
func (s *session) there(ctx context.Context, o ledger.Object, relations map[migration.TableName]bool, doubtful bool) (bool, error) {
	switch o.Kind {
	case "SCHEMA":
		return false, nil // one that is there is not pending in the new reading
	case "TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE":
		return relations[migration.TableName{Schema: o.Schema, Name: o.Name}], nil
	}
	if !doubtful || o.Undo == "" {
		return true, nil
	}
	tx, err := s.Conn.Begin(ctx)
	if err != nil {
		return false, err
	}
	_, dropErr := s.Conn.PgConn().Exec(ctx, o.Undo).ReadAll()
	if err := tx.Rollback(ctx); err != nil {
		return false, err
	}
	var own *objectError
	if err := ownFailure(dropErr); err != nil && !errors.As(err, &own) {
		return false, err
	}
	return !slices.Contains(gone, pg.SQLState(dropErr)), nil
}
