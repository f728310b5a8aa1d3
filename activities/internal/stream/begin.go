package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// takeoverWithin is how long a walsender that we ended may take to let go of the slot.
	takeoverWithin = 10 * time.Second
	takeoverPause  = 50 * time.Millisecond
)

// walsender is a connection in which the source sends changes.
type walsender struct {
	*pgconn.PgConn
	interval time.Duration // how often the source must hear of us
	flushed  migration.LSN // the end of its log, before the start
}

// begin opens the connection and starts replication, taking the slot over from sessions that are ours by their name. Up to
// durable, the source was told that it may forget the log.
func begin(ctx context.Context, config Config, durable migration.LSN, ours func(session string) bool) (*walsender, error) {
	deadline := time.Now().Add(takeoverWithin)
	for {
		sender, err := tryBegin(ctx, config, durable)
		if err == nil {
			return sender, nil
		}
		if pg.SQLState(err) != "55006" { // object_in_use
			return nil, err
		}
		holder, gone, askErr := takeOver(ctx, config, ours)
		if askErr != nil {
			return nil, askErr
		}
		if !gone || time.Now().After(deadline) {
			return nil, inUse(config, holder, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(takeoverPause):
		}
	}
}

func tryBegin(ctx context.Context, config Config, durable migration.LSN) (*walsender, error) {
	conn, err := config.Source.Replication(ctx, config.Session, newGatheringConn)
	if err != nil {
		return nil, err
	}
	sender := &walsender{PgConn: conn}
	if err := sender.begin(ctx, config, durable); err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		_ = conn.Close(closing)
		return nil, err
	}
	return sender, nil
}

func (w *walsender) begin(ctx context.Context, config Config, durable migration.LSN) error {
	if err := w.recognise(ctx, config); err != nil {
		return err
	}
	if err := w.prepare(ctx, config); err != nil {
		return err
	}
	if err := w.start(ctx, config); err != nil || config.Held == nil {
		return err
	}
	return config.Held(ctx, durable)
}

func (w *walsender) recognise(ctx context.Context, config Config) error {
	found, err := pglogrepl.IdentifySystem(ctx, w.PgConn)
	if err != nil {
		return config.Source.Fault("identify", "", err)
	}
	w.flushed = migration.LSN(found.XLogPos)
	if config.Recognise == nil {
		return nil
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

func (w *walsender) prepare(ctx context.Context, config Config) error {
	sql := walSenderTimeout
	if config.Version >= 130000 {
		sql = decodingMemory + ";" + walSenderTimeout
	}
	results, err := w.Exec(ctx, sql).ReadAll()
	if err != nil {
		return config.Source.Fault("prepare replication session for", config.Slot, err)
	}
	var millis int64
	if last := results[len(results)-1]; len(last.Rows) == 1 {
		if _, err := fmt.Sscan(string(last.Rows[0][0]), &millis); err != nil {
			return fmt.Errorf("read wal_sender_timeout: %w", err)
		}
	}
	w.interval = statusMax
	if millis > 0 { // not switched off
		w.interval = min(statusMax, time.Duration(millis)*time.Millisecond/3)
	}
	return nil
}

func (w *walsender) start(ctx context.Context, config Config) error {
	var args []string
	for option := range slices.Chunk(options(config), 2) {
		args = append(args, option[0]+" "+migration.Literal(option[1]))
	}
	err := pglogrepl.StartReplication(ctx, w.PgConn, migration.Quote(config.Slot), pglogrepl.LSN(config.Start),
		pglogrepl.StartReplicationOptions{Mode: pglogrepl.LogicalReplication, PluginArgs: args})
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

// end tells the server that we are done and drops what it still sends, until it is ready for another command or the
// deadline of the connection is over.
func (w *walsender) end() {
	frontend := w.Frontend()
	frontend.Send(&pgproto3.CopyDone{})
	if frontend.Flush() != nil {
		return
	}
	for {
		message, err := w.ReceiveMessage(context.Background())
		if err != nil {
			return
		}
		if _, ready := message.(*pgproto3.ReadyForQuery); ready {
			return
		}
	}
}

// slotHolder is also empty for a moment between two sessions.
const slotHolder = `
select s.active_pid, coalesce(a.application_name, '')
from pg_catalog.pg_replication_slots s left join pg_catalog.pg_stat_activity a on a.pid = s.active_pid
where s.slot_name = $1 and s.active_pid is not null`

type holder struct {
	pid  int
	name string
}

// takeOver ends the session that holds the slot when it is ours, and reports whether the slot is free, or will be.
func takeOver(ctx context.Context, config Config, ours func(session string) bool) (holder, bool, error) {
	conn, err := config.Source.Connect(ctx, config.Session)
	if err != nil {
		return holder{}, false, err
	}
	defer pg.Close(conn)
	var by holder
	err = conn.QueryRow(ctx, slotHolder, config.Slot).Scan(&by.pid, &by.name)
	if errors.Is(err, pgx.ErrNoRows) {
		return by, true, nil
	}
	if err != nil {
		return by, false, config.Source.Fault("find who uses slot", config.Slot, err)
	}
	gone := ours(by.name)
	if gone {
		_, err = conn.Exec(ctx, "select pg_catalog.pg_terminate_backend($1)", by.pid)
	}
	return by, gone, config.Source.Fault("end earlier session of slot", config.Slot, err)
}

func inUse(config Config, by holder, err error) error {
	fault := migration.NewFault(migration.FaultOther, "start replication from slot", config.Slot, err,
		fmt.Sprintf("process %d (%q) uses the slot; end it on the source: select pg_terminate_backend(%d)", by.pid, by.name, by.pid))
	fault.Side, fault.SQLState = migration.Source, "55006"
	return fault
}
