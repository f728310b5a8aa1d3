package slot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// identity tells one server from another, and one life of it from the next.
type identity struct {
	system   string
	timeline int
}

// identify refuses a standby: its snapshots do not list running transactions, and it has no slot of ours.
func identify(ctx context.Context, conn *pgx.Conn) (identity, error) {
	var standby bool
	if err := conn.QueryRow(ctx, "select pg_catalog.pg_is_in_recovery()").Scan(&standby); err != nil {
		return identity{}, err
	}
	if standby {
		fault := migration.NewFault(migration.FaultWrongServer, "identify source", "", errors.New("the server is a standby"),
			"name the primary in source, or add target_session_attrs=read-write to its uri")
		fault.Side = migration.Source
		return identity{}, fault
	}
	system, timeline, err := pg.Identify(ctx, conn)
	return identity{system: system, timeline: timeline}, err
}

func (i identity) mustBe(expected identity) error {
	var cause error
	var hint string
	switch {
	case i.system != expected.system:
		cause = fmt.Errorf("system identifier %s answered, the migration began with %s", i.system, expected.system)
		hint = "let source name the server that the migration began with"
	case i.timeline != expected.timeline:
		cause = fmt.Errorf("timeline %d answered, the migration began on timeline %d", i.timeline, expected.timeline)
		hint = "the source failed over; rows copied near that moment are not certain: unless all tables are caught up by now, " + anew
	default:
		return nil
	}
	fault := migration.NewFault(migration.FaultWrongServer, "recognise source", "", cause, hint)
	fault.Side = migration.Source
	return fault
}

// Expected is what the ledger believes about the source.
type Expected struct {
	SystemID     string
	Timeline     int
	Slot         string
	Publications []string
	// Applied is the progress row's end_lsn.
	Applied migration.LSN
}

// WaitsForStandbys reports whether the source sends nothing before its standbys have it (synchronized_standby_slots, from 17).
func (s Status) WaitsForStandbys() bool { return s.Waits == "WaitForStandbyConfirmation" }

// Recognise refuses another server, and another timeline of it, as wrong-server.
func (e Expected) Recognise(system string, timeline int) error {
	return identity{system: system, timeline: timeline}.mustBe(identity{system: e.SystemID, timeline: e.Timeline})
}

// Expect reads the belief from the ledger.
func Expect(ctx context.Context, l ledger.Ledger) (Expected, error) {
	known, err := l.Read(ctx)
	if err != nil {
		return Expected{}, err
	}
	expected := Expected{
		SystemID: known.SystemID, Timeline: known.Timeline, Slot: known.Slot, Publications: known.Publications,
	}
	var applied string
	err = l.Conn.QueryRow(ctx, "select end_lsn::text from dts_sync.progress where migration = $1", l.ID).Scan(&applied)
	if errors.Is(err, pgx.ErrNoRows) {
		return expected, migration.Faultf(migration.FaultBug, "read progress of", string(l.ID), "the slot was not prepared")
	}
	if err != nil {
		return expected, err
	}
	expected.Applied, err = migration.ParseLSN(applied)
	return expected, err
}

// Status is the slot's row, as far as this version of the server has it.
type Status struct {
	Plugin, Database string
	Here             bool // in the database of the connection
	Temporary        bool // it goes with the session that made it
	Synced           bool // a standby kept it in step with its primary's; from 17
	ActivePID        int
	Waits            string        // what that process waits for
	Restart          migration.LSN // 0 = invalidated
	Confirmed        migration.LSN
	WALStatus        string // reserved extended unreserved lost; from 13
	Invalidation     string // reason; from 17
	Current          migration.LSN
	Retained         int64
	Limit            int64     // of Retained, beyond which a checkpoint invalidates the slot; 0 = none, or not known
	Now              time.Time // the source's clock
	// Settings of the source that invalidate slots; "" = this version has none.
	KeepSize, IdleTimeout string
}

// readSlot takes the limit from safe_wal_size, which is what is left of it and knows of segments and wal_keep_size. Less than
// nothing may be left.
const readSlot = `
select coalesce(s.plugin, ''), coalesce(s.database, ''), coalesce(s.database = pg_catalog.current_database(), false), s.temporary,
       coalesce((j ->> 'synced')::boolean, false), coalesce(s.active_pid, 0), coalesce(a.wait_event, ''),
       coalesce(s.restart_lsn, '0/0')::text, coalesce(s.confirmed_flush_lsn, '0/0')::text,
       coalesce(j ->> 'wal_status', ''), coalesce(j ->> 'invalidation_reason', ''), w.lsn::text,
       coalesce(pg_catalog.pg_wal_lsn_diff(w.lsn, s.restart_lsn), 0)::bigint,
       case when s.restart_lsn is null or j ->> 'safe_wal_size' is null then 0
            else greatest(pg_catalog.pg_wal_lsn_diff(w.lsn, s.restart_lsn) + (j ->> 'safe_wal_size')::numeric, 1) end::bigint,
       pg_catalog.clock_timestamp(), coalesce(pg_catalog.current_setting('max_slot_wal_keep_size', true), ''),
       coalesce(pg_catalog.current_setting('idle_replication_slot_timeout', true), '')
from pg_catalog.pg_replication_slots s
left join pg_catalog.pg_stat_activity a on a.pid = s.active_pid,
pg_catalog.to_jsonb(s) j, pg_catalog.pg_current_wal_lsn() w(lsn)
where s.slot_name = $1`

// Inspect reads the slot's row. A missing slot is slot-lost.
func Inspect(ctx context.Context, conn *pgx.Conn, slot string) (Status, error) {
	var s Status
	var restart, confirmed, current string
	err := conn.QueryRow(ctx, readSlot, slot).Scan(&s.Plugin, &s.Database, &s.Here, &s.Temporary, &s.Synced, &s.ActivePID, &s.Waits,
		&restart, &confirmed, &s.WALStatus, &s.Invalidation, &current, &s.Retained, &s.Limit, &s.Now, &s.KeepSize, &s.IdleTimeout)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, errMissing(slot)
	}
	if err != nil {
		return s, pg.Fault(migration.Source, "read slot", slot, err)
	}
	for _, field := range []struct {
		to   *migration.LSN
		text string
	}{{&s.Restart, restart}, {&s.Confirmed, confirmed}, {&s.Current, current}} {
		if *field.to, err = migration.ParseLSN(field.text); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Check compares the source with what the ledger believes, at every connect. It changes nothing. Its faults are
// wrong-server, slot-lost and drift, each with what a person can do.
func Check(ctx context.Context, conn *pgx.Conn, expected Expected) error {
	found, err := identify(ctx, conn)
	if err != nil {
		return pg.Fault(migration.Source, "identify", "", err)
	}
	if err := expected.Recognise(found.system, found.timeline); err != nil {
		return err
	}
	status, err := Inspect(ctx, conn, expected.Slot)
	if err != nil {
		return err
	}
	if err := status.usable(expected.Slot); err != nil {
		return err
	}
	if status.Confirmed > expected.Applied {
		return lost(expected.Slot,
			fmt.Sprintf("the source has forgotten changes up to %s, the target has only those up to %s", status.Confirmed, expected.Applied),
			"somebody else read from the slot or made it anew under its name, or the target lost commits; "+anew)
	}
	return checkPublications(ctx, conn, expected.Publications)
}

// usable names why a slot that stands can serve no more.
func (s Status) usable(slot string) error {
	switch {
	case s.Plugin != "pgoutput" || !s.Here:
		return lost(slot, fmt.Sprintf("a slot of this name belongs to plugin %q and database %q", s.Plugin, s.Database),
			"it is not the slot that the migration made; "+anew)
	case s.WALStatus == "lost", s.Restart == 0, s.Invalidation != "":
		why, remedy := s.invalidated()
		return lost(slot, "the source has invalidated the slot: "+why, remedy+", then "+anew)
	}
	return nil
}

const anew = "start the migration anew (`pgdts stop`, then `pgdts run --again`)"

// invalidated tells why, as far as the source says so: before 17 it gives no reason, and knows one only.
func (s Status) invalidated() (why, remedy string) {
	switch s.Invalidation {
	case "idle_timeout":
		return "nobody read from it for longer than idle_replication_slot_timeout, which is " + s.IdleTimeout,
			"set idle_replication_slot_timeout = 0 on the source"
	case "wal_level_insufficient":
		return "wal_level was lowered", "set wal_level = logical on the source and restart it"
	case "", "wal_removed":
		return "it needed more of the log than max_slot_wal_keep_size lets it keep, which is now " + s.KeepSize,
			"raise max_slot_wal_keep_size on the source"
	}
	return s.Invalidation, "see that the source keeps slots"
}

func lost(slot, what, hint string) error {
	fault := migration.NewFault(migration.FaultSlotLost, "use slot", slot, errors.New(what), hint)
	fault.Side = migration.Source
	return fault
}

// checkPublications notices one that was dropped. Newer servers stream on without its tables, and say nothing.
func checkPublications(ctx context.Context, conn *pgx.Conn, expected []string) error {
	found, err := pg.Strings(ctx, conn, "select pubname::text from pg_catalog.pg_publication where pubname = any($1)", expected)
	if err != nil {
		return pg.Fault(migration.Source, "read publications", "", err)
	}
	for _, name := range expected {
		if !slices.Contains(found, name) {
			fault := migration.NewFault(migration.FaultDrift, "find publication", name, errors.New("it was dropped on the source"),
				"changes since then are not in the stream; start the migration anew (`pgdts stop`, then `pgdts run --again`)")
			fault.Side = migration.Source
			return fault
		}
	}
	return nil
}
