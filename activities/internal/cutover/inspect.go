package cutover

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Inspection is what the ledger and the slot each believe. A side that did not answer has its error and nothing else.
type Inspection struct {
	ID     migration.ID `json:"id"`
	Ledger *LedgerView  `json:"ledger"`
	Slot   *SlotView    `json:"slot"`
	// Fences lists the functions that may refuse writes on the source.
	Fences   []string      `json:"fences"`
	Sessions []SessionView `json:"sessions"`
	Errors   []string      `json:"errors,omitempty"`

	slot string // its name, as far as the ledger says it
}

// LedgerView is the main row, with the tables by stage.
type LedgerView struct {
	Run      string           `json:"run"`
	LeaseTo  time.Time        `json:"leaseUntil"`
	Ended    string           `json:"ended,omitempty"`
	FencedAt *time.Time       `json:"fencedAt"`
	OpenedAt *time.Time       `json:"openedAt"`
	Start    migration.LSN    `json:"start"`
	Applied  migration.LSN    `json:"applied"`
	Changes  int64            `json:"changes"`
	Tables   map[string]int   `json:"tables"` // by stage
	Lanes    map[string]int64 `json:"lanes"`  // newest token
	Notes    []string         `json:"notes,omitempty"`
}

// SlotView is the slot's row on the source.
type SlotView struct {
	Name      string        `json:"name"`
	ActivePID int           `json:"activePid"`
	Restart   migration.LSN `json:"restart"`
	Confirmed migration.LSN `json:"confirmed"`
	Current   migration.LSN `json:"current"`
	Retained  int64         `json:"retainedBytes"`
	WALStatus string        `json:"walStatus,omitempty"`
}

// SessionView is a session of this migration.
type SessionView struct {
	Side    migration.Side `json:"side"`
	Name    string         `json:"name"` // application_name
	PID     int            `json:"pid"`
	State   string         `json:"state"`
	Started time.Time      `json:"started"`
}

// Inspect asks both servers and changes nothing. What does not answer is listed in Errors; when neither answers it fails.
func Inspect(ctx context.Context, source, target *pg.Server, id migration.ID) (Inspection, error) {
	found := Inspection{ID: id, Fences: []string{}, Sessions: []SessionView{}, slot: id.Slot()}
	targetErr := found.look(ctx, target, found.readTarget)
	sourceErr := found.look(ctx, source, found.readSource)
	if targetErr != nil && sourceErr != nil {
		return found, targetErr
	}
	for _, err := range []error{targetErr, sourceErr} {
		if err != nil {
			found.Errors = append(found.Errors, err.Error())
		}
	}
	return found, nil
}

func (i *Inspection) look(ctx context.Context, server *pg.Server, read func(context.Context, *pgx.Conn) error) error {
	conn, err := server.Connect(ctx, "pgdts/inspect")
	if err != nil {
		return err
	}
	defer pg.Close(conn)
	if err := read(ctx, conn); err != nil {
		return server.Fault("inspect", string(i.ID), err)
	}
	return server.Fault("inspect sessions of", string(i.ID), i.readSessions(ctx, conn, server.Side))
}

const readSessions = `
select application_name, pid, coalesce(state, ''), backend_start from pg_stat_activity
where left(application_name, length($1)) = $1 order by application_name, pid`

func (i *Inspection) readSessions(ctx context.Context, conn *pgx.Conn, side migration.Side) error {
	rows, err := conn.Query(ctx, readSessions, "pgdts/"+i.ID.Short()+"/")
	if err != nil {
		return err
	}
	sessions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (SessionView, error) {
		s := SessionView{Side: side}
		err := row.Scan(&s.Name, &s.PID, &s.State, &s.Started)
		return s, err
	})
	i.Sessions = append(i.Sessions, sessions...)
	return err
}

const readLanes = `select lane, token from dts_sync.lane where migration = $1`

func (i *Inspection) readTarget(ctx context.Context, conn *pgx.Conn) error {
	exists, err := ledger.Exists(ctx, conn)
	if err != nil || !exists {
		return err
	}
	l := ledger.Ledger{ID: i.ID, Conn: conn}
	known, err := l.Read(ctx)
	if errors.Is(err, ledger.ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	if known.Slot != "" {
		i.slot = known.Slot
	}
	view := &LedgerView{
		Run: known.Run, Ended: known.Ended, FencedAt: known.FencedAt, OpenedAt: known.OpenedAt, Start: known.Start,
		Changes: known.Changes, Notes: known.Notes, Tables: map[string]int{}, Lanes: map[string]int64{},
	}
	var applied string
	err = conn.QueryRow(ctx, `select m.lease_until, coalesce(p.end_lsn, '0/0')::text
		from dts_sync.migration m left join dts_sync.progress p on p.migration = m.id where m.id = $1`, i.ID).Scan(&view.LeaseTo, &applied)
	if err != nil {
		return err
	}
	if view.Applied, err = migration.ParseLSN(applied); err != nil {
		return err
	}
	tables, err := l.Tables(ctx)
	if err != nil {
		return err
	}
	for _, table := range tables {
		view.Tables[string(table.Stage)]++
	}
	rows, err := conn.Query(ctx, readLanes, i.ID)
	if err != nil {
		return err
	}
	var lane string
	var token int64
	_, err = pgx.ForEachRow(rows, []any{&lane, &token}, func() error {
		view.Lanes[lane] = token
		return nil
	})
	i.Ledger = view
	return err
}

func (i *Inspection) readSource(ctx context.Context, conn *pgx.Conn) error {
	fences, err := pg.Strings(ctx, conn, `select p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
		where n.nspname = 'pgdts_fence' order by 1`)
	if err != nil {
		return err
	}
	i.Fences = append(i.Fences, fences...)
	status, err := slot.Inspect(ctx, conn, i.slot)
	if fault, ok := migration.AsFault(err); ok && fault.Kind == migration.FaultSlotLost {
		return nil
	}
	if err != nil {
		return err
	}
	i.Slot = &SlotView{
		Name: i.slot, ActivePID: status.ActivePID, Restart: status.Restart, Confirmed: status.Confirmed,
		Current: status.Current, Retained: status.Retained, WALStatus: status.WALStatus,
	}
	return nil
}
