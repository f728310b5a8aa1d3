package slot

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

var markerName = wal.MarkerTable.String()

// createMarkerTable is shared by all migrations of this source: each has its row.
const createMarkerTable = `
create schema if not exists dts_sync;
create table if not exists dts_sync.marker (id int primary key, v text not null, at timestamptz not null default pg_catalog.now())`

func createMarker(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// "if not exists" alone lets two migrations that start at once collide.
		if _, err := tx.Exec(ctx, "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('dts_sync'))"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, createMarkerTable)
		return err
	})
}

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
