package pgtest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const endSessions = `
select pg_catalog.pg_terminate_backend(pid)
from pg_catalog.pg_stat_activity
where datname = $1`

const endSlotHolders = `
select pg_catalog.pg_terminate_backend(active_pid)
from pg_catalog.pg_replication_slots
where database = $1 and active_pid is not null`

const dropSlots = `
select pg_catalog.pg_drop_replication_slot(slot_name)
from pg_catalog.pg_replication_slots
where database = $1 and active_pid is null`

// preparedHere are transactions that keep the database, decided by no session.
const preparedHere = `select gid from pg_catalog.pg_prepared_xacts where database = $1`

const leftHere = `
select (select count(*) from pg_catalog.pg_replication_slots where database = $1)
     + (select count(*) from pg_catalog.pg_stat_activity where datname = $1)`

// drop does nothing when the server is down: its databases go with its directory.
func (db *DB) drop(ctx context.Context) error {
	if !db.Server.Running() {
		return nil
	}
	if err := db.rollbackPrepared(ctx); err != nil {
		return err
	}
	return session(ctx, db.Server.URI("postgres"), func(conn *pgx.Conn) error {
		name := pgx.Identifier{db.Name}.Sanitize()
		// A client that reconnects must not come back between the end of its session and the drop.
		if _, err := conn.Exec(ctx, "alter database "+name+" allow_connections false"); err != nil {
			return err
		}
		if err := db.empty(ctx, conn); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "drop database "+name)
		return err
	})
}

// rollbackPrepared has to run in the database itself.
func (db *DB) rollbackPrepared(ctx context.Context) error {
	return db.session(ctx, func(conn *pgx.Conn) error {
		gids, err := texts(ctx, conn, preparedHere, db.Name)
		if err != nil {
			return err
		}
		for _, row := range gids {
			gid := strings.ReplaceAll(row[0], "'", "''")
			if _, err := conn.Exec(ctx, "rollback prepared '"+gid+"'"); err != nil {
				return fmt.Errorf("rollback prepared transaction: %w", err)
			}
		}
		return nil
	})
}

// empty repeats, because a terminated session takes a moment to let go of its slot.
func (db *DB) empty(ctx context.Context, conn *pgx.Conn) error {
	for {
		for _, statement := range []string{endSlotHolders, endSessions, dropSlots} {
			// A slot may be taken or dropped by its owner between the listing and the drop.
			if _, err := conn.Exec(ctx, statement, db.Name); err != nil && ctx.Err() != nil {
				return err
			}
		}
		var left int
		if err := conn.QueryRow(ctx, leftHere, db.Name).Scan(&left); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end %d sessions and slots: %w", left, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
