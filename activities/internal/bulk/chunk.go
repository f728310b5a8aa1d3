package bulk

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// errTaken means that the chunk is done or in somebody else's hands.
var errTaken = errors.New("the chunk is taken")

// copyChunk copies a chunk in one transaction of the target. When it fails nothing of it remains; when the commit's
// answer was lost, the chunk's row says what became of it.
func (w *worker) copyChunk(ctx context.Context, c ledger.Chunk) error {
	t := w.tables[c.RelID]
	var done ledger.Copied
	err := w.write(ctx, func(tx pgx.Tx) error {
		// A commit that the target could forget would be a loss: the stream does not carry these rows.
		if _, err := tx.Exec(ctx, "set local synchronous_commit = on"); err != nil {
			return err
		}
		mine, err := ledger.LockChunk(ctx, tx, w.lane.ID, c)
		if err != nil {
			return err
		}
		if !mine {
			return errTaken
		}
		if done, err = w.transfer(ctx, t, c); err != nil {
			return err
		}
		if err := ledger.FinishChunk(ctx, tx, w.lane, c, done); err != nil {
			return err
		}
		return failpoint.Hit(failpoint.CopyBeforeCommit)
	})
	if err != nil {
		err = w.config.Target.Fault("copy", "", err)
		if fault, ok := migration.AsFault(err); ok {
			fault.Object = fmt.Sprintf("%s (chunk %d)", t.Name, c.No)
		}
		return err
	}
	w.done.Chunks++
	w.done.Rows += done.Rows
	w.done.Bytes += done.Bytes
	w.config.Log.Debug("chunk copied", zap.String(migration.KeyTable, t.Name.String()), zap.Int(migration.KeyChunk, c.No),
		zap.Int64(migration.KeyRows, done.Rows), zap.Int64(migration.KeyBytes, done.Bytes))
	return failpoint.Hit(failpoint.CopyAfterCommit)
}

// transfer moves the rows of a chunk into the target's open transaction.
func (w *worker) transfer(ctx context.Context, t ledger.Table, c ledger.Chunk) (ledger.Copied, error) {
	var done ledger.Copied
	defer w.inFlight.Store(0)
	format, err := w.format(ctx, t.Table)
	if err != nil {
		return done, err
	}
	at, err := w.read(ctx, t, func() (err error) {
		done.Rows, done.Bytes, err = w.pipe(ctx, w.source, w.target,
			copyOut(t.Table, where(t.Table, c.Low, c.High))+format, copyIn(t.Table)+format,
			func(n int) { w.inFlight.Store(min(w.inFlight.Load()+int64(n), c.Bytes)) })
		return err
	})
	done.Snapshot, done.LSN = at.snapshot, at.lsn
	return done, err
}

// copyOut reads the table itself, without partitions or children. Rows that its extension made are left to the
// extension on the target.
func copyOut(t catalog.Table, where string) string {
	if t.Condition != "" {
		where = " " + t.Condition
	}
	return fmt.Sprintf("copy (select %s from only %s%s) to stdout", migration.QuoteList(catalog.ColumnNames(t.DataColumns())),
		t.Name.SQL(), where)
}

// copyIn names the columns: generated ones cannot be written, GENERATED ALWAYS identities can by COPY alone.
func copyIn(t catalog.Table) string {
	columns := catalog.ColumnNames(t.DataColumns())
	if len(columns) == 0 {
		return fmt.Sprintf("copy %s from stdin", t.Name.SQL())
	}
	return fmt.Sprintf("copy %s (%s) from stdin", t.Name.SQL(), migration.QuoteList(columns))
}

const targetTypes = `
select a.attname, format_type(a.atttypid, a.atttypmod)
from pg_attribute a where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped`

// format chooses the binary form where both servers give the same meaning to the same bytes, else text.
func (w *worker) format(ctx context.Context, t catalog.Table) (string, error) {
	for _, column := range t.DataColumns() {
		if !binarySafe(column) {
			return "", nil
		}
	}
	rows, err := w.target.Query(ctx, targetTypes, t.Name.SQL())
	if err != nil {
		return "", w.config.Target.Fault("look at", t.Name.String(), err)
	}
	types := map[string]string{}
	var name, typ string
	_, err = pgx.ForEachRow(rows, []any{&name, &typ}, func() error {
		types[name] = typ
		return nil
	})
	if err != nil {
		return "", w.config.Target.Fault("look at", t.Name.String(), err)
	}
	for _, column := range t.DataColumns() {
		if types[column.Name] != column.Type {
			return "", nil
		}
	}
	return " with (format binary)", nil
}

// binarySafe knows the types whose binary form holds no number of a catalog entry (as regclass and arrays of a user's
// types do) and is the same in every version. An enum's is its label.
func binarySafe(c catalog.Column) bool {
	if c.TypeKind == "e" {
		return true
	}
	switch c.BaseOID {
	case 16, 17, 18, 19, 20, 21, 23, 25, 26, // bool bytea "char" name int8 int2 int4 text oid
		114, 3802, 2950, 3220, // json jsonb uuid pg_lsn
		700, 701, 1700, 790, // float4 float8 numeric money
		1042, 1043, 1560, 1562, // bpchar varchar bit varbit
		1082, 1083, 1114, 1184, 1186, 1266, // date time timestamp timestamptz interval timetz
		869, 650, 829, 774, // inet cidr macaddr macaddr8
		600, 601, 602, 603, 604, 628, 718: // point lseg path box polygon line circle
		return true
	case 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, // arrays of those
		1115, 1182, 1183, 1185, 1187, 1231, 1270, 1561, 1563, 199, 3807, 2951, 1041, 651, 1040, 775:
		return true
	}
	return false
}
