package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// readLabels gives the values of every enum in their order.
const readLabels = `
select n.nspname::text, t.typname::text, array_agg(e.enumlabel::text order by e.enumsortorder)
from pg_enum e join pg_type t on t.oid = e.enumtypid join pg_namespace n on n.oid = t.typnamespace group by 1, 2 order by 1, 2`

// invalidText is what a server says to a value that its enum does not have, among others.
const invalidText = "22P02"

// lacking explains a value that the target's type refused: the source's enum has got values since. No description in the
// stream tells of that. What came before the first such value becomes durable.
func (a *Applier) lacking(ctx context.Context, segment []wal.Transaction, refused error) error {
	var failed *misfit
	if !errors.As(refused, &failed) || pg.SQLState(failed.err) != invalidText {
		return refused
	}
	whole := a.unended == nil
	if err := a.abandon(ctx); err != nil {
		return refused // the connection is gone; the next attempt comes to the same place
	}
	names, statements, err := a.newLabels(ctx)
	if err != nil || len(statements) == 0 {
		return errors.Join(refused, err)
	}
	cause := fmt.Errorf("the source's enum %s has values that the target's does not have", strings.Join(names, ", "))
	if a.config.Spec.DDL == migration.DDLApplySafe {
		if err := a.addLabels(ctx, statements); err != nil {
			return err
		}
		return migration.NewFault(migration.FaultOther, "apply to", failed.table.planned.Name.String(), cause, "they are added; the stream begins again")
	}
	for i := 0; whole && i < len(segment); i++ {
		if err := a.take(ctx, segment[i:i+1]); err != nil {
			break // here it is
		}
	}
	return failed.table.drift(cause, "on the target run: "+strings.Join(statements, "; ")+"; then `pgdts resume`")
}

// abandon rolls everything back that is not durable.
func (a *Applier) abandon(ctx context.Context) error {
	a.walk.reset()
	if err := a.pipe.flush(ctx); err != nil { // statements that were on their way
		return err
	}
	a.pipe.plain(ctx, "rollback")
	if err := a.pipe.flush(ctx); err != nil {
		return err
	}
	for i := range a.reshaped {
		a.reshaped[i].settled = false
	}
	a.unshape()
	a.extended, a.unended, a.held, a.counted = a.extended[:0], nil, Stats{}, Stats{}
	return nil
}

type enum struct {
	name   migration.TableName
	labels []string
}

func readEnums(ctx context.Context, conn *pgx.Conn) ([]enum, error) {
	rows, err := conn.Query(ctx, readLabels)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e enum, err error) {
		err = row.Scan(&e.name.Schema, &e.name.Name, &e.labels)
		return e, err
	})
}

// newLabels are the statements that give the target's enums the values they lack, at their places.
func (a *Applier) newLabels(ctx context.Context) (types, statements []string, err error) {
	var here []enum
	err = a.onSource(ctx, "read enums", "", func(conn *pgx.Conn) (err error) {
		here, err = readEnums(ctx, conn)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	there, err := readEnums(ctx, a.conn)
	if err != nil {
		return nil, nil, err
	}
	names, err := a.named(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range here {
		target := names.Relation(e.name)
		i := slices.IndexFunc(there, func(t enum) bool { return t.name == target })
		if i < 0 {
			continue
		}
		if added := addValues(target, e.labels, there[i].labels); added != nil {
			types, statements = append(types, e.name.String()), append(statements, added...)
		}
	}
	return types, statements, nil
}

func addValues(name migration.TableName, wanted, has []string) []string {
	var statements []string
	for i, label := range wanted {
		if slices.Contains(has, label) {
			continue
		}
		place := ""
		if i > 0 {
			place = " after " + migration.Literal(wanted[i-1])
		} else if len(has) > 0 {
			place = " before " + migration.Literal(has[0])
		}
		statements = append(statements, "alter type "+name.SQL()+" add value if not exists "+migration.Literal(label)+place)
	}
	return statements
}

// addLabels is done before the changes that need it, not with them: a new value cannot be used in the transaction that adds
// it. One that nothing uses yet harms nobody. Before 12 it cannot be added in a transaction at all.
func (a *Applier) addLabels(ctx context.Context, statements []string) error {
	version, err := pg.Version(ctx, a.conn)
	if err != nil {
		return err
	}
	add := func(run func(context.Context, string) error) error {
		for _, statement := range statements {
			if err := run(ctx, statement); err != nil {
				return a.config.Target.Fault("add values to an enum", "", err)
			}
		}
		return nil
	}
	err = pgx.BeginFunc(ctx, a.conn, func(tx pgx.Tx) error {
		if err := a.config.Lane.Guard(ctx, tx); err != nil || version < 120000 {
			return err
		}
		return add(func(ctx context.Context, sql string) error { _, err := tx.Exec(ctx, sql); return err })
	})
	if err == nil && version < 120000 {
		err = add(func(ctx context.Context, sql string) error { _, err := a.conn.Exec(ctx, sql); return err })
	}
	if err == nil {
		a.config.Logger.Info("followed a change of an enum", zap.Strings("statements", statements))
	}
	return err
}
