package bulk

import (
	"context"
	"errors"

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
	if err := w.replaceable(ctx, table); err != nil {
		return 0, err
	}
	if err := w.fresh(ctx, table); err != nil {
		return 0, err
	}
	if err := w.unchanged(ctx, source, tables{table}); err != nil {
		return 0, err
	}
	var rows int64
	err := w.write(ctx, func(tx pgx.Tx) error {
		if err := empty(ctx, tx, table); err != nil {
			return err
		}
		as, err := w.form(ctx, table.Table)
		if err != nil {
			return err
		}
		rows, _, err = w.pipe(ctx, source, target, copyOut(table.Table, span{}, as), copyIn(table.Target.SQL(), table.Table, as), func(int) {})
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

// readShared finds other tables that are written into the same one: partitions whose tree is not the same on the target.
const readShared = `
select exists (select from dts_sync.tbl
               where migration = $1 and target_schema = $2 and target_name = $3 and relid <> $4 and mode <> 'root')`

// replaceable refuses a table with rows that are not this table's.
func (w *worker) replaceable(ctx context.Context, table ledger.Table) error {
	var shared bool
	err := w.target.QueryRow(ctx, readShared, w.lane.ID, table.Target.Schema, table.Target.Name, table.OID).Scan(&shared)
	if err != nil {
		return w.config.Target.Fault("read ledger of", string(w.lane.ID), err)
	}
	var cause string
	switch {
	case table.Keep:
		cause = "the target keeps rows of its own in it"
	case table.Merged, shared:
		cause = "rows of other tables are in it"
	case table.Existing && w.config.Spec.FromNow():
		cause = "its rows on the target were there before the migration"
	default:
		return nil
	}
	return migration.NewFault(migration.FaultNotReady, "copy again", table.Target.String(),
		errors.New("its updates and deletes are not in the stream, and its rows cannot be replaced: "+cause),
		"give the table a key that identifies its rows, or bring its changes over by hand")
}

// referenced finds foreign keys to the table, because of which it cannot be truncated alone.
const referenced = `
select exists (select from pg_class where oid = to_regclass($1) and relkind = 'p'),
       exists (select from pg_constraint where contype = 'f' and confrelid = to_regclass($1))`

// empty removes the table's rows, those of an extension excepted, which the copy leaves out too. A table that was there
// before is not truncated: that takes a right of its own, and its user may have hung a trigger on it.
func empty(ctx context.Context, tx pgx.Tx, table ledger.Table) error {
	var partitioned, foreign bool
	if err := tx.QueryRow(ctx, referenced, table.Target.SQL()).Scan(&partitioned, &foreign); err != nil {
		return err
	}
	command := "truncate only " + table.Target.SQL()
	switch {
	case partitioned:
		command = "delete from " + table.Target.SQL()
	case table.Condition != "":
		command = "delete from only " + table.Target.SQL() + " " + table.Condition
	case foreign, table.Existing:
		command = "delete from only " + table.Target.SQL()
	}
	_, err := tx.Exec(ctx, command)
	return err
}
