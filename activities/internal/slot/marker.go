package slot

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

var markerName = wal.MarkerTable.String()

// createMarkerTable is shared by all migrations of this source: each has its row.
const createMarkerTable = `create table if not exists dts_sync.marker ` +
	`(id int primary key, v text not null, at timestamptz not null default pg_catalog.now())`

// markMarker tells the table from one that an administrator has made, which stays.
const markMarker = `comment on table dts_sync.marker is '` + ownMark + `'`

// findMarker asks the catalog by names: to_regclass would be an error for who may not use the schema.
const findMarker = `
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'dts_sync' and c.relname = 'marker' and c.relkind = 'r'`

const readMarker = `
select pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select')
       and pg_catalog.has_table_privilege(c.oid, 'insert') and pg_catalog.has_table_privilege(c.oid, 'update'),
       coalesce(pg_catalog.obj_description(c.oid, 'pg_class') = $1, false)` + findMarker

// markerTable is how the marker table is found.
type markerTable struct {
	exists bool
	usable bool // by the role
	ours   bool
}

func lookMarker(ctx context.Context, conn *pgx.Conn) (m markerTable, err error) {
	err = conn.QueryRow(ctx, readMarker, ownMark).Scan(&m.usable, &m.ours)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, nil
	}
	m.exists = err == nil
	return m, err
}

// createMarker makes the table unless the role can use the one that stands.
func createMarker(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// "if not exists" alone lets two migrations that start at once collide.
		if _, err := tx.Exec(ctx, "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('dts_sync'))"); err != nil {
			return err
		}
		found, err := lookMarker(ctx, conn)
		if err != nil || found.usable {
			return err
		}
		// Asked first: to create a schema "if not exists" takes the right to create one even where it exists.
		var there bool
		if err := tx.QueryRow(ctx, "select exists (select from pg_catalog.pg_namespace where nspname = 'dts_sync')").Scan(&there); err != nil {
			return err
		}
		statements := []string{createMarkerTable, markMarker}
		if !there {
			statements = append([]string{createMarkerSchema}, statements...)
		}
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

const createMarkerSchema = `create schema if not exists dts_sync`

// emitMessage and emitMarker are committed without waiting for synchronous standbys: decoding does not wait either.
const emitMessage = `
select pg_catalog.pg_logical_emit_message(true, $1, $2)::text
from pg_catalog.set_config('synchronous_commit', 'local', true)`

const emitMarker = `
insert into dts_sync.marker as m (id, v, at)
select pg_catalog.hashtext($1), $2, pg_catalog.now() from pg_catalog.set_config('synchronous_commit', 'local', true)
on conflict (id) do update set v = excluded.v, at = excluded.at
returning pg_catalog.pg_current_wal_insert_lsn()::text`

// Emit writes a transaction of its own into the source's log, which arrives in the stream as a message with this
// content: a marker or a heartbeat. What comes before the first slash names the migration, since messages reach every
// stream of the database. The position returned is before the commit. It needs no transaction open on conn.
func Emit(ctx context.Context, conn *pgx.Conn, version int, content string) (migration.LSN, error) {
	var position string
	var err error
	if version >= messagesSince {
		err = conn.QueryRow(ctx, emitMessage, wal.MessagePrefix, content).Scan(&position)
	} else {
		whose, _, _ := strings.Cut(content, "/")
		err = conn.QueryRow(ctx, emitMarker, whose, content).Scan(&position)
	}
	if err != nil {
		return 0, err
	}
	return migration.ParseLSN(position)
}
