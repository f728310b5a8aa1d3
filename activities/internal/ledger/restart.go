package ledger

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// A migration that failed, or was given up before it was complete, may begin anew. Until Restart has committed, its row
// says how it ended, so that whoever dies before is followed by somebody who does all of it again.

const giveUp = `
update dts_sync.migration set ended = 'failed'
where id = $1 and run <> $2 and ended is null and opened_at is null and evidence is null and lease_until < now()`

// GiveUp marks as failed what an execution left that could not say so itself, because the target did not answer in its
// end. It leaves alone what run itself has begun, what is alive, and what is the user's.
func (l Ledger) GiveUp(ctx context.Context, run string) error {
	_, err := l.Conn.Exec(ctx, giveUp, l.ID, run)
	return err
}

// TerminateOthers ends every session of the migration on the server of conn but those of this attempt and those that
// only read reports, and waits until they are gone. A transaction that was guarded before the lease changed hands could
// commit afterwards.
func (n Lane) TerminateOthers(ctx context.Context, conn *pgx.Conn) error {
	prefix := strings.TrimSuffix(n.ID.SessionPrefix(""), "/")
	for {
		alive, err := pg.Terminate(ctx, conn, prefix, n.Session(), n.ID.Session("report", 0))
		if err != nil || alive == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ForgetObjects deletes the objects and the notes about them, in the caller's guarded transaction.
func (l Ledger) ForgetObjects(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "delete from dts_sync.object where migration = $1", l.ID); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "update dts_sync.migration set notes = '[]' where id = $1", l.ID)
	return err
}

// readOwnTables lists the tables that this migration has created and that are there: those that hold rows.
const readOwnTables = `
select n.nspname::text, c.relname::text
from dts_sync.object o
join pg_namespace n on n.nspname = o.schema
join pg_class c on c.relnamespace = n.oid and c.relname = o.name and c.relkind = 'r'
where o.migration = $1 and o.kind = 'TABLE' and o.state = 'done'
order by 1, 2`

// truncateMax bounds the locks that one transaction takes: each table has its indexes and its TOAST table too.
const truncateMax = 100

// Restart empties the tables that the migration has created, and no other, and makes its row as if it had just begun;
// objects stay. Until the last transaction commits the row says that the migration has ended, and a second call does all
// of it again. identities says that the source's replica identities are the user's again.
func (l Ledger) Restart(ctx context.Context, lane Lane, identities bool, report func(migration.Beat)) error {
	// Triggers on truncate that somebody has added must not fire for us, where that is ours to say.
	if _, err := pg.TryReplicaRole(ctx, l.Conn); err != nil {
		return err
	}
	tables, err := l.ownTables(ctx)
	if err != nil {
		return err
	}
	for done := 0; done < len(tables); {
		report(migration.Beat{Message: "emptying tables", Done: int64(done), Total: int64(len(tables))})
		batch := tables[done:min(done+truncateMax, len(tables))]
		if err := lane.guarded(ctx, l.Conn, "truncate only "+strings.Join(batch, ", only ")); err != nil {
			return err
		}
		done += len(batch)
		if err := failpoint.Hit(failpoint.RestartTruncate); err != nil {
			return err
		}
	}
	report(migration.Beat{Message: "tables are empty", Done: int64(len(tables)), Total: int64(len(tables))})
	return pgx.BeginFunc(ctx, l.Conn, func(tx pgx.Tx) error { return l.reset(ctx, tx, lane, identities) })
}

func (l Ledger) ownTables(ctx context.Context) ([]string, error) {
	rows, err := l.Conn.Query(ctx, readOwnTables, l.ID)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var name migration.TableName
		err := row.Scan(&name.Schema, &name.Name)
		return name.SQL(), err
	})
}

// resetMigration keeps the lanes' tokens, which old processes are told by, and what the role may.
const resetMigration = `
update dts_sync.migration
set phase = 'prepare', source_sysid = null, source_timeline = null, slot = null, publications = '{}', start_lsn = null,
    start_snapshot = null, identities = case when $2 then '[]' else identities end, planned = false,
    schema_created = exists (select from dts_sync.object where migration = $1) and not exists (
        select from dts_sync.object where migration = $1 and section = 'before' and state in ('pending', 'failed')),
    changes = 0, fenced_at = null, ended = null, created_at = now()
where id = $1`

func (l Ledger) reset(ctx context.Context, tx pgx.Tx, lane Lane, identities bool) error {
	if err := lane.BeginOpening(ctx, tx); err != nil { // it waits for every guarded transaction
		return err
	}
	for _, statement := range []string{
		// Not by the foreign key: for the replica role it does nothing.
		"delete from dts_sync.chunk where migration = $1",
		"delete from dts_sync.tbl where migration = $1",
		"delete from dts_sync.progress where migration = $1",
		"delete from dts_sync.conflict where migration = $1",
	} {
		if _, err := tx.Exec(ctx, statement, l.ID); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, resetMigration, l.ID, identities)
	return err
}
