package ledger

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

//go:embed schema.sql
var schema string

// leaseTime is how long another host waits after the holder's last sign of life.
const leaseTime = 2 * time.Minute

// Ledger reads and writes one migration's rows. It does not own its connection.
type Ledger struct {
	ID   migration.ID
	Conn *pgx.Conn
	// Run, if set, is the execution that speaks: Holds and End ask whether it still has the lease.
	Run string
}

// Create makes the schema where it is missing. Two migrations starting at once do not disturb each other.
func Create(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtext('dts_sync'))"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, schema+throttleTable)
		return err
	})
}

// ledgerExists asks the catalog: to_regclass is an error for a role that may not use the schema.
const ledgerExists = `
select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where n.nspname = 'dts_sync' and c.relname = 'migration')`

// Exists reports whether the ledger's schema is there at all.
func Exists(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var exists bool
	err := conn.QueryRow(ctx, ledgerExists).Scan(&exists)
	return exists, err
}

const acquire = `
insert into dts_sync.migration as m (id, run, lease_until, spec) values ($1, $2, now() + $4::interval, $3)
on conflict (id) do update set run = $2, lease_until = now() + $4::interval, spec = $3
where (m.run = $2 or m.lease_until < now() or m.ended is not null) and m.opened_at is null and m.evidence is null`

const readOver = `
select opened_at is not null, opened_at is null and evidence is not null from dts_sync.migration where id = $1`

// Acquire records the migration and takes its lease for an execution of the workflow. It refuses, as fenced, while
// another execution holds the lease, and for ever once the target was opened, or settled by a stop that drained.
// Refused, it has changed nothing.
func (l Ledger) Acquire(ctx context.Context, run string, spec migration.Spec) error {
	encoded, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	tag, err := l.Conn.Exec(ctx, acquire, l.ID, run, encoded, leaseTime.String())
	if err != nil || tag.RowsAffected() == 1 {
		return err
	}
	var opened, settled bool
	err = l.Conn.QueryRow(ctx, readOver, l.ID).Scan(&opened, &settled)
	switch {
	case err != nil:
		return err
	case opened:
		return errOpened(l.ID)
	case settled:
		return errSettled(l.ID)
	default:
		return migration.NewFault(migration.FaultFenced, "take the lease on", string(l.ID),
			errors.New("another host is running this migration"),
			"stop it there, or wait two minutes after it has died")
	}
}

func errOpened(id migration.ID) error {
	return migration.NewFault(migration.FaultFenced, "write to the target of", string(id),
		errors.New("the target was opened by a cutover; this migration may not write to it again"), "")
}

func errSettled(id migration.ID) error {
	return migration.NewFault(migration.FaultFenced, "write to the target of", string(id),
		errors.New("the migration was stopped after it had brought everything over; the target is its user's now"),
		"pgdts release "+string(id)+", then drop the tables or choose another target")
}

// renewWithin bounds the wait for a target that says nothing. Nobody but the opening holds the row for long.
const renewWithin = 20 * time.Second

// Renew extends the lease; every long step calls it every few seconds. It fails as fenced when the lease was taken. By it a
// step notices that the way to the target swallows everything: while rows are under way the kernel would send them again for
// a quarter of an hour, and no keepalive.
func (l Ledger) Renew(ctx context.Context, run string) error {
	ctx, cancel := context.WithTimeout(ctx, renewWithin)
	defer cancel()
	tag, err := l.Conn.Exec(ctx,
		"update dts_sync.migration set lease_until = now() + $3::interval where id = $1 and run = $2", l.ID, run, leaseTime.String())
	if err == nil && tag.RowsAffected() == 0 {
		return migration.Faultf(migration.FaultFenced, "renew the lease on", string(l.ID), "another execution has taken it")
	}
	return err
}

// Lane is a writer's place: only the newest token of a lane may write.
type Lane struct {
	ID    migration.ID
	Run   string
	Name  string
	Token int64
}

const nextToken = `
insert into dts_sync.lane as l (migration, lane, token) values ($1, $2, 1)
on conflict (migration, lane) do update set token = l.token + 1 returning token`

// Enter takes a lane: a token above all earlier ones, and the end of every session that an earlier attempt left on this
// server. The caller names its sessions by Session and calls Guard in every transaction that writes.
func (l Ledger) Enter(ctx context.Context, run, lane string) (Lane, error) {
	entered := Lane{ID: l.ID, Run: run, Name: lane}
	if err := l.Conn.QueryRow(ctx, nextToken, l.ID, lane).Scan(&entered.Token); err != nil {
		return Lane{}, err
	}
	return entered, entered.TerminateEarlier(ctx, l.Conn)
}

// TerminateEarlier ends the sessions of earlier attempts at this lane on the server of conn, source or target, and waits
// until they are gone: a frozen process keeps its backend active for ever, and a signalled backend may still commit.
func (n Lane) TerminateEarlier(ctx context.Context, conn *pgx.Conn) error {
	for {
		alive, err := pg.Terminate(ctx, conn, n.ID.SessionPrefix(n.Name), n.Session())
		if err != nil {
			return fmt.Errorf("end earlier sessions of lane %s: %w", n.Name, err)
		}
		if alive == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Session is the application_name of this attempt's sessions.
func (n Lane) Session() string { return n.ID.Session(n.Name, n.Token) }

// guard locks nothing that other lanes need. A newer token may be taken while a guarded transaction runs; Enter ends that
// transaction before it returns. Only the opening, which locks the row for update, waits for guarded transactions.
const guard = `
select l.token = $3, m.run = $4, m.opened_at is null
from dts_sync.lane l join dts_sync.migration m on m.id = l.migration
where l.migration = $1 and l.lane = $2
for key share of m, l`

// Guard must be the first statement of every transaction that writes to the target. It refuses, as replaced, when a later
// attempt has entered the lane, as fenced when another execution has the lease, or when the target was opened (I3). The opening
// cannot happen until this transaction ends: it locks the main row FOR UPDATE.
func (n Lane) Guard(ctx context.Context, tx pgx.Tx) error {
	var newest, leased, closed bool
	err := tx.QueryRow(ctx, guard, n.ID, n.Name, n.Token, n.Run).Scan(&newest, &leased, &closed)
	switch {
	case err != nil:
		return err
	case !closed:
		return errOpened(n.ID)
	case !leased:
		return migration.Faultf(migration.FaultFenced, "write in lane", n.Name, "another execution has taken the lease")
	case !newest:
		return migration.Faultf(migration.FaultReplaced, "write in lane", n.Name, "a later attempt has taken over")
	}
	return nil
}

// Migration is the main row.
type Migration struct {
	Run           string
	Phase         string
	SystemID      string
	Timeline      int
	Slot          string
	Publications  []string
	Start         migration.LSN
	StartSnapshot migration.Snapshot // zero until the slot, or the held snapshot, is recorded
	SnapshotName  string             // without incremental: what a session holds for the copy; "" while none does
	SnapshotEpoch int                // counts held snapshots
	ReplicaRole   bool
	Planned       bool
	SchemaCreated bool
	Changes       int64
	FencedAt      *time.Time
	OpenedAt      *time.Time
	Ended         string
	Created       time.Time
	Notes         []string
	Settled       bool // stopped after a drain: the target is the user's, although it was never opened
}

const readMigration = `
select run, phase, coalesce(source_sysid, ''), coalesce(source_timeline, 0), coalesce(slot, ''), publications,
       coalesce(start_lsn, '0/0')::text, coalesce(start_snapshot, ''), coalesce(snapshot_name, ''), snapshot_epoch,
       replica_role, planned, schema_created, changes,
       fenced_at, opened_at, coalesce(ended, ''), created_at, notes,
       opened_at is null and evidence is not null
from dts_sync.migration where id = $1`

// ErrUnknown means that the target's ledger does not know the migration.
var ErrUnknown = errors.New("the target's ledger does not know this migration")

// Read reads the main row; ErrUnknown when there is none.
func (l Ledger) Read(ctx context.Context) (Migration, error) {
	var m Migration
	var start, snapshot string
	var notes []byte
	err := l.Conn.QueryRow(ctx, readMigration, l.ID).Scan(&m.Run, &m.Phase, &m.SystemID, &m.Timeline, &m.Slot, &m.Publications,
		&start, &snapshot, &m.SnapshotName, &m.SnapshotEpoch, &m.ReplicaRole, &m.Planned, &m.SchemaCreated, &m.Changes, &m.FencedAt,
		&m.OpenedAt, &m.Ended, &m.Created, &notes, &m.Settled)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, ErrUnknown
	}
	if err != nil {
		return m, err
	}
	if m.Start, err = migration.ParseLSN(start); err != nil {
		return m, err
	}
	if snapshot != "" {
		if m.StartSnapshot, err = migration.ParseSnapshot(snapshot); err != nil {
			return m, err
		}
	}
	return m, json.Unmarshal(notes, &m.Notes)
}

// AddNote records something that the report must say. A note that is there already is not added again.
func (l Ledger) AddNote(ctx context.Context, note string) error {
	_, err := l.Conn.Exec(ctx, `update dts_sync.migration set notes = notes || to_jsonb($2::text)
		where id = $1 and not notes @> to_jsonb($2::text)`, l.ID, note)
	return err
}

// ErrTaken means that another execution has the migration now.
var ErrTaken = errors.New("another execution has taken the migration over")

// Holds refuses, by ErrTaken, when Run is set and no longer the execution that has the lease. A ledger without session,
// or without the migration, refuses nothing.
func (l Ledger) Holds(ctx context.Context) error {
	if l.Run == "" || l.Conn == nil {
		return nil
	}
	var taken bool
	err := l.Conn.QueryRow(ctx, "select exists (select from dts_sync.migration where id = $1 and run <> $2)", l.ID, l.Run).Scan(&taken)
	if err == nil && taken {
		return ErrTaken
	}
	return err
}

const setEnded = `
update dts_sync.migration set ended = $2, lease_until = now() where id = $1 and ($3 = '' or run = $3)`

// End marks how the migration ended, unless another execution than Run has it. The rows stay as evidence until Remove.
func (l Ledger) End(ctx context.Context, end migration.Phase) error {
	_, err := l.Conn.Exec(ctx, setEnded, l.ID, end, l.Run)
	return err
}

// Remove deletes the migration's rows, and the schema with the last migration.
func (l Ledger) Remove(ctx context.Context) error {
	return pgx.BeginFunc(ctx, l.Conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtext('dts_sync'))"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "delete from dts_sync.migration where id = $1", l.ID); err != nil {
			return err
		}
		var last bool
		if err := tx.QueryRow(ctx, "select not exists (select from dts_sync.migration)").Scan(&last); err != nil || !last {
			return err
		}
		_, err := tx.Exec(ctx, "drop schema dts_sync cascade")
		return err
	})
}
