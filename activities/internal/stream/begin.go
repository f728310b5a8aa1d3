package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// takeoverWithin is how long a walsender that we ended may take to let go of the slot.
	takeoverWithin = 10 * time.Second
	takeoverPause  = 50 * time.Millisecond
)

// begin opens the connection and starts replication, taking the slot over from an earlier session of ours.
func begin(ctx context.Context, config Config) (*pgconn.PgConn, time.Duration, error) {
	deadline := time.Now().Add(takeoverWithin)
	for {
		conn, interval, err := tryBegin(ctx, config)
		if err == nil {
			return conn, interval, nil
		}
		if pg.SQLState(err) != "55006" { // object_in_use
			return nil, 0, err
		}
		holder, ours, askErr := takeOver(ctx, config)
		if askErr != nil {
			return nil, 0, askErr
		}
		if !ours || time.Now().After(deadline) {
			return nil, 0, inUse(config, holder, err)
		}
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-time.After(takeoverPause):
		}
	}
}

func tryBegin(ctx context.Context, config Config) (*pgconn.PgConn, time.Duration, error) {
	conn, err := config.Source.Replication(ctx, config.Session, newGatheringConn)
	if err != nil {
		return nil, 0, err
	}
	interval, err := tryStart(ctx, conn, config)
	if err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		_ = conn.Close(closing)
		return nil, 0, err
	}
	return conn, interval, nil
}

func tryStart(ctx context.Context, conn *pgconn.PgConn, config Config) (time.Duration, error) {
	if err := recognise(ctx, conn, config); err != nil {
		return 0, err
	}
	interval, err := prepare(ctx, conn, config)
	if err != nil {
		return 0, err
	}
	if err := start(ctx, conn, config); err != nil || config.Held == nil {
		return interval, err
	}
	return interval, config.Held(ctx)
}

func recognise(ctx context.Context, conn *pgconn.PgConn, config Config) error {
	if config.Recognise == nil {
		return nil
	}
	found, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return config.Source.Fault("identify", "", err)
	}
	return config.Recognise(found.SystemID, int(found.Timeline))
}

// statusMax bounds how long a confirmed position stays untold.
const statusMax = 10 * time.Second

const walSenderTimeout = `
select setting::bigint from pg_catalog.pg_settings where name = 'wal_sender_timeout'`

// decodingMemory raises what the server may hold of a transaction before it spills to disk, where it is set lower.
const decodingMemory = `
select pg_catalog.set_config('logical_decoding_work_mem', '64MB', false)
where pg_catalog.pg_size_bytes(pg_catalog.current_setting('logical_decoding_work_mem')) < 67108864`

// prepare returns how often the source must hear of us.
func prepare(ctx context.Context, conn *pgconn.PgConn, config Config) (time.Duration, error) {
	sql := walSenderTimeout
	if config.Version >= 130000 {
		sql = decodingMemory + ";" + walSenderTimeout
	}
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return 0, config.Source.Fault("prepare replication session for", config.Slot, err)
	}
	var millis int64
	if last := results[len(results)-1]; len(last.Rows) == 1 {
		if _, err := fmt.Sscan(string(last.Rows[0][0]), &millis); err != nil {
			return 0, fmt.Errorf("read wal_sender_timeout: %w", err)
		}
	}
	if millis <= 0 { // switched off
		return statusMax, nil
	}
	return min(statusMax, time.Duration(millis)*time.Millisecond/3), nil
}

func start(ctx context.Context, conn *pgconn.PgConn, config Config) error {
	err := pglogrepl.StartReplication(ctx, conn, migration.Quote(config.Slot), pglogrepl.LSN(config.Start),
		pglogrepl.StartReplicationOptions{Mode: pglogrepl.LogicalReplication, PluginArgs: options(config)})
	switch pg.SQLState(err) {
	case "42704":
		return lost(config.Slot, err, "the slot is gone; start the migration anew (`pgdts stop`, then `pgdts run --again`)")
	case "55000":
		return lost(config.Slot, err, "the slot can serve no more changes; start the migration anew (`pgdts stop`, then `pgdts run --again`)")
	case "55006":
		return err
	}
	return config.Source.Fault("start replication from slot", config.Slot, err)
}

// slotHolder is also empty for a moment between two sessions.
const slotHolder = `
select s.active_pid, coalesce(a.application_name, ''), left(coalesce(a.application_name, ''), length($2)) = $2
from pg_catalog.pg_replication_slots s left join pg_catalog.pg_stat_activity a on a.pid = s.active_pid
where s.slot_name = $1 and s.active_pid is not null`

type holder struct {
	pid  int
	name string
}

// takeOver ends the session that holds the slot when it is one of this migration.
func takeOver(ctx context.Context, config Config) (holder, bool, error) {
	conn, err := config.Source.Connect(ctx, config.Session)
	if err != nil {
		return holder{}, false, err
	}
	defer pg.Close(conn)
	var by holder
	var ours bool
	prefix := config.ID.SessionPrefix("stream")
	err = conn.QueryRow(ctx, slotHolder, config.Slot, prefix).Scan(&by.pid, &by.name, &ours)
	if errors.Is(err, pgx.ErrNoRows) {
		return by, true, nil
	}
	if err != nil {
		return by, false, config.Source.Fault("find who uses slot", config.Slot, err)
	}
	if ours {
		_, err = conn.Exec(ctx, "select pg_catalog.pg_terminate_backend($1)", by.pid)
	}
	return by, ours, config.Source.Fault("end earlier session of slot", config.Slot, err)
}

func inUse(config Config, by holder, err error) error {
	fault := migration.NewFault(migration.FaultOther, "start replication from slot", config.Slot, err,
		fmt.Sprintf("process %d (%q) uses the slot; end it on the source: select pg_terminate_backend(%d)", by.pid, by.name, by.pid))
	fault.Side, fault.SQLState = migration.Source, "55006"
	return fault
}
