package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	firstPause   = 5 * time.Millisecond
	longestPause = time.Second
	// flushPatience is how long the source may take to flush its log by itself.
	flushPatience = 500 * time.Millisecond
)

// fetched is a row of the source as a snapshot saw it.
type fetched struct {
	image    row // nil when there was none
	snapshot migration.Snapshot
	high     migration.LSN
}

// refetch reads a row of the source under a snapshot that sees the transaction. The stream can deliver a transaction
// before it is visible (it may wait for a synchronous standby): a snapshot that does not see it would not find the row,
// and the row would be lost.
func (a *Applier) refetch(ctx context.Context, tx *wal.Transaction, t *table, image row) (fetched, error) {
	var found fetched
	err := a.onSource(ctx, "read a row again from", t.planned.Name.String(), func(conn *pgx.Conn) error {
		operators, err := a.sourceOperators(ctx, conn, t)
		if err != nil {
			return err
		}
		for pause := firstPause; ; pause = min(2*pause, longestPause) {
			sees, err := a.tryFetch(ctx, conn, tx.XID, t, operators, image, &found)
			if err != nil || sees {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
		}
	})
	return found, err
}

// sourceOperators are the operators of the key on the source: those of extensions are in a schema of their own there.
func (a *Applier) sourceOperators(ctx context.Context, conn *pgx.Conn, t *table) (map[string]string, error) {
	c := &counterpart{}
	if err := c.readOperators(ctx, conn, t.planned.OID, t.planned.Key); err != nil {
		return nil, err
	}
	if c.operators == nil {
		return nil, t.drift(errors.New("the source has no unique index on its key any more"), "create it there again; then resume")
	}
	return c.operators, nil
}

const snapshotNow = `select txid_current_snapshot()::text, pg_current_wal_insert_lsn()::text`

// tryFetch locks the table before it takes the snapshot: a rewrite between the two would show an empty table.
func (a *Applier) tryFetch(ctx context.Context, conn *pgx.Conn, xid uint32, t *table, operators map[string]string, image row, found *fetched) (bool, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, "lock table only "+t.planned.Name.SQL()+" in access share mode"); err != nil {
		return false, err
	}
	var snapshot, high string
	if err := tx.QueryRow(ctx, snapshotNow).Scan(&snapshot, &high); err != nil {
		return false, err
	}
	if found.snapshot, err = migration.ParseSnapshot(snapshot); err != nil {
		return false, err
	}
	if found.high, err = migration.ParseLSN(high); err != nil {
		return false, err
	}
	if !found.snapshot.Sees(xid) {
		return false, nil
	}
	if found.image, err = t.read(ctx, conn, operators, image); err != nil {
		return false, err
	}
	if err := a.awaitFlushed(ctx, tx, found.high); err != nil {
		return false, err
	}
	return true, tx.Commit(ctx)
}

// read asks for the text form, which is what the stream carries.
func (t *table) read(ctx context.Context, conn *pgx.Conn, operators map[string]string, image row) (row, error) {
	var terms []string
	var values [][]byte
	for _, i := range t.key {
		name := t.given[i].name
		values = append(values, image[i].Data)
		terms = append(terms, fmt.Sprintf("%s %s $%d::text::%s", migration.Quote(name), operators[name], len(values), t.plannedColumn(name).Type))
	}
	names := make([]string, len(t.given))
	for i := range t.given {
		names[i] = t.given[i].name
	}
	sql := "select " + migration.QuoteList(names) + " from only " + t.planned.Name.SQL() + " where " + strings.Join(terms, " and ")
	result := conn.PgConn().ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if result.Err != nil || len(result.Rows) == 0 {
		return nil, result.Err
	}
	found := make(row, len(t.given))
	for i, value := range result.Rows[0] {
		if value != nil {
			found[i] = wal.Value{Kind: wal.Text, Data: value}
		}
	}
	return found, nil
}

// awaitFlushed makes the snapshot survive a crash of the source: what it saw must be in the flushed log, or else the
// transaction ids are given out again. The session that took the snapshot asks, since having lived through both proves
// that no crash lay between.
func (a *Applier) awaitFlushed(ctx context.Context, tx pgx.Tx, high migration.LSN) error {
	var flushed bool
	for deadline := time.Now().Add(flushPatience); ; {
		if err := tx.QueryRow(ctx, "select pg_current_wal_flush_lsn() >= $1::text::pg_lsn", high.String()).Scan(&flushed); err != nil || flushed {
			return err
		}
		if time.Now().After(deadline) {
			if err := a.makeFlush(ctx); err != nil {
				return err
			}
			deadline = time.Now().Add(flushPatience)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(firstPause):
		}
	}
}

// makeFlush commits something on the source and waits for the local flush only.
const makeFlush = `
set synchronous_commit = local;
select pg_logical_emit_message(true, 'pgdts', 'flush')`

func (a *Applier) makeFlush(ctx context.Context) error {
	conn, err := a.config.Source.Connect(ctx, a.config.Lane.Session())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return conn.PgConn().Exec(ctx, makeFlush).Close()
}
