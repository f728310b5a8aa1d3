package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/tests/bench/arena"
)

var settings = map[string]string{
	"shared_buffers": "1GB", "max_wal_size": "32GB", "checkpoint_timeout": "1h", "autovacuum": "off", "fsync": "on",
	"max_replication_slots": "60", "max_wal_senders": "60", "max_connections": "200",
}

// release drops the slots of a database, which keep the log.
func release(ctx context.Context, s arena.Server, database string) error {
	const sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database() and not active"
	return s.Exec(ctx, database, sql)
}

const arrivedEvery = 10 * time.Millisecond

// arrived waits until the last transaction of a backlog can be seen.
func arrived(ctx context.Context, s arena.Server, database string) error {
	conn, err := pgx.Connect(ctx, s.URI(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for there := false; !there; {
		if err := conn.QueryRow(ctx, "select exists (select from bench_end)").Scan(&there); err != nil {
			return err
		}
		if there {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(arrivedEvery):
		}
	}
	return nil
}
