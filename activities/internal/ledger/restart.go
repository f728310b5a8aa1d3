package ledger

import (
	"context"
	"errors"
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

// A table of the target whose rows are ours to remove: this migration has created it, or has found it without rows, before
// anything was copied (tbl.was_empty). Tables whose rows were kept are neither: what the copy wrote there cannot be told
// from what is their user's.
type emptied struct {
	migration.TableName
	truncate    bool // else its rows are deleted
	partitioned bool
}

// readEmptied lists those that are there: of all that the migration has created, or with $2 of those alone that rows were
// copied to. Tables that are not ours need a right for TRUNCATE, which also refuses what a foreign key refers to.
const readEmptied = `
with filled as (
    select t.target_schema, t.target_name, t.was_empty from dts_sync.tbl t join dts_sync.migration m on m.id = t.migration
    where t.migration = $1 and exists (
        select from dts_sync.chunk c where c.migration = $1 and c.relid = t.relid and (c.state = 'done' and c.rows > 0 or m.changes > 0))
), ours as (
    select o.schema, o.name, true as made from dts_sync.object o
    where o.migration = $1 and o.kind = 'TABLE' and o.state = 'done' and o.message is distinct from '` + WasThere + `'
      and (not $2 or exists (select from filled f where f.target_schema = o.schema and f.target_name = o.name))
    union
    select target_schema, target_name, false from filled where was_empty
)
select n.nspname::text, c.relname::text,
       o.made or c.relkind = 'r' and has_table_privilege(c.oid, 'truncate')
           and not exists (select from pg_constraint f where f.contype = 'f' and f.confrelid = c.oid and f.conrelid <> c.oid),
       c.relkind = 'p'
from ours o
join pg_namespace n on n.nspname = o.schema
join pg_class c on c.relnamespace = n.oid and c.relname = o.name and (c.relkind = 'r' or c.relkind = 'p' and not o.made)
order by 3 desc, 1, 2`

// truncateMax bounds the locks that one transaction takes: each table has its indexes and its TOAST table too.
const truncateMax = 100

// Restart empties the tables whose rows are the migration's, and no other, and makes its row as if it had just begun;
// objects stay. Until the last transaction commits the row says that the migration has ended, and a second call does all
// of it again. identities says that the source's replica identities are the user's again. Where MayRestart refuses it
// refuses too, and has changed nothing.
func (l Ledger) Restart(ctx context.Context, lane Lane, identities bool, report func(migration.Beat)) error {
	if err := l.empty(ctx, lane, false, report); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, l.Conn, func(tx pgx.Tx) error { return l.reset(ctx, tx, lane, identities) })
}

// EmptyCopied removes the rows that chunks have brought, before they are copied again under another snapshot. It may be
// called again after a failure, and refuses like MayRestart.
func (l Ledger) EmptyCopied(ctx context.Context, lane Lane, report func(migration.Beat)) error {
	return l.empty(ctx, lane, true, report)
}

func (l Ledger) empty(ctx context.Context, lane Lane, copied bool, report func(migration.Beat)) error {
	if err := l.MayRestart(ctx); err != nil {
		return err
	}
	// Triggers on truncate that somebody has added must not fire for us, where that is ours to say.
	if _, err := pg.TryReplicaRole(ctx, l.Conn); err != nil {
		return err
	}
	tables, err := l.emptied(ctx, copied)
	if err != nil {
		return err
	}
	for done := 0; done < len(tables); {
		report(migration.Beat{Message: "emptying tables", Done: int64(done), Total: int64(len(tables))})
		statement, n := emptySome(tables[done:])
		if err := lane.guarded(ctx, l.Conn, statement); err != nil {
			return err
		}
		done += n
		if err := failpoint.Hit(failpoint.RestartTruncate); err != nil {
			return err
		}
	}
	report(migration.Beat{Message: "tables are empty", Done: int64(len(tables)), Total: int64(len(tables))})
	return nil
}

// emptySome is a statement that empties the first tables, and how many it means.
func emptySome(tables []emptied) (string, int) {
	if first := tables[0]; !first.truncate {
		if first.partitioned {
			return "delete from " + first.SQL(), 1
		}
		return "delete from only " + first.SQL(), 1
	}
	var names []string
	for _, table := range tables[:min(len(tables), truncateMax)] {
		if !table.truncate {
			break
		}
		names = append(names, table.SQL())
	}
	return "truncate only " + strings.Join(names, ", only "), len(names)
}

func (l Ledger) emptied(ctx context.Context, copied bool) ([]emptied, error) {
	rows, err := l.Conn.Query(ctx, readEmptied, l.ID, copied)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (emptied, error) {
		var t emptied
		err := row.Scan(&t.Schema, &t.Name, &t.truncate, &t.partitioned)
		return t, err
	})
}

// readMixed lists tables of the target that hold rows of the migration beside rows of their user.
const readMixed = `
select distinct t.target_schema, t.target_name from dts_sync.tbl t join dts_sync.migration m on m.id = t.migration
where t.migration = $1 and not t.was_empty
  and exists (select from dts_sync.chunk c
              where c.migration = $1 and c.relid = t.relid and (c.state = 'done' and c.rows > 0 or m.changes > 0))
  and not exists (select from dts_sync.object o
                  where o.migration = $1 and o.kind = 'TABLE' and o.state = 'done' and o.schema = t.target_schema and o.name = t.target_name
                    and o.message is distinct from '` + WasThere + `')
  and to_regclass(quote_ident(t.target_schema) || '.' || quote_ident(t.target_name)) is not null
order by 1, 2`

// MayRestart refuses, as drift, when the copy has written into a table that held its user's rows, and the table is not
// empty now: those of the copy cannot be told from the user's, and a second copy would take the first one's for the
// user's.
func (l Ledger) MayRestart(ctx context.Context) error {
	rows, err := l.Conn.Query(ctx, readMixed, l.ID)
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (name migration.TableName, err error) {
		return name, row.Scan(&name.Schema, &name.Name)
	})
	if err != nil {
		return err
	}
	for _, table := range tables {
		var filled bool
		if err := l.Conn.QueryRow(ctx, "select exists (select from "+table.SQL()+")").Scan(&filled); err != nil {
			return err
		}
		if filled {
			return migration.NewFault(migration.FaultDrift, "copy anew into", table.String(),
				errors.New("the rows that the copy has written cannot be told from those that the target had before"),
				"put the table back as it was, then: pgdts release "+string(l.ID)+", and run again; or, if nothing in it is needed: truncate "+
					table.SQL()+", and: pgdts resume")
		}
	}
	return nil
}

// resetMigration keeps the lanes' tokens, which old processes are told by, and what the role may.
const resetMigration = `
update dts_sync.migration
set phase = 'prepare', source_sysid = null, source_timeline = null, slot = null, publications = '{}', start_lsn = null,
    start_snapshot = null, snapshot_name = null, identities = case when $2 then '[]' else identities end, planned = false,
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
		"delete from dts_sync.kept where migration = $1",
	} {
		if _, err := tx.Exec(ctx, statement, l.ID); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, resetMigration, l.ID, identities)
	return err
}
