package bulk

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// CopyUnderFence empties a table of the target and copies it again, in one transaction of the target. It is for tables
// whose updates and deletes are not published, at the cutover: source has a transaction open that holds the fence's
// lock, so that nothing changes while it reads, and the stream has been drained, so that nothing follows that the copy
// holds already. It returns the rows copied. When it fails the target's table is as before; a failure on the source
// ends the fence's transaction.
func CopyUnderFence(ctx context.Context, config Config, source, target *pgx.Conn, lane ledger.Lane, table ledger.Table) (int64, error) {
	w := &worker{config: config.withDefaults(), lane: lane, source: source, target: target}
	if err := w.fresh(ctx, table); err != nil {
		return 0, err
	}
	if err := w.unchanged(ctx, table); err != nil {
		return 0, err
	}
	var rows int64
	err := w.write(ctx, func(tx pgx.Tx) error {
		if err := empty(ctx, tx, table); err != nil {
			return err
		}
		format, err := w.format(ctx, table.Table)
		if err != nil {
			return err
		}
		rows, _, err = w.pipe(ctx, source, target, copyOut(table.Table, "")+format, copyIn(table.Table)+format, func(int) {})
		return err
	})
	return rows, named(w.config.Target.Fault("copy again", table.Name.String(), err), table.Name.String())
}

// fresh refuses a transaction whose snapshot is older than the fence: it would miss the last writes before it.
func (w *worker) fresh(ctx context.Context, table ledger.Table) error {
	var isolation string
	err := w.source.QueryRow(ctx, "select current_setting('transaction_isolation')").Scan(&isolation)
	if err != nil {
		return w.config.Source.Fault("look at the fence of", table.Name.String(), err)
	}
	if w.source.PgConn().TxStatus() != 'T' || isolation != "read committed" {
		return migration.Faultf(migration.FaultBug, "copy under the fence", table.Name.String(),
			"want an open transaction with isolation read committed, not %s", isolation)
	}
	return nil
}

// referenced finds foreign keys to the table, because of which it cannot be truncated alone.
const referenced = `select exists (select from pg_constraint where contype = 'f' and confrelid = to_regclass($1))`

// empty removes the table's rows, those of an extension excepted, which the copy leaves out too.
func empty(ctx context.Context, tx pgx.Tx, table ledger.Table) error {
	if table.Condition != "" {
		_, err := tx.Exec(ctx, "delete from only "+table.Name.SQL()+" "+table.Condition)
		return err
	}
	var foreign bool
	if err := tx.QueryRow(ctx, referenced, table.Name.SQL()).Scan(&foreign); err != nil {
		return err
	}
	command := "truncate only "
	if foreign {
		command = "delete from only "
	}
	_, err := tx.Exec(ctx, command+table.Name.SQL())
	return err
}
