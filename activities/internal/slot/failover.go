package slot

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Failover looks after a migration whose source has failed over to a standby.
type Failover struct {
	Source *pg.Server
	// Conn is a session with the source, Target one of the lane's with the ledger.
	Conn, Target *pgx.Conn
	Lane         ledger.Lane
	Logger       *zap.Logger
}

// NoteFailover begins every note about a source that failed over.
const NoteFailover = "the source failed over"

// Follow moves the ledger to the source's new timeline, and returns what is expected from then on, where that is exact: the
// target has no change that the new primary lost, the slot came along by the server's own means and is not ahead, and no row
// of the target was copied where transaction ids tell what was seen, since the new primary has given some of them to others.
// Where the timeline is the expected one it does nothing; otherwise it refuses as wrong-server, and says which of this is not
// so. When it fails, the ledger is as it was.
func (f Failover) Follow(ctx context.Context, expected Expected) (Expected, error) {
	found, err := identify(ctx, f.Conn)
	if err != nil {
		return expected, pg.Fault(migration.Source, "identify", "", err)
	}
	if found.system != expected.SystemID || found.timeline == expected.Timeline {
		return expected, expected.Recognise(found.system, found.timeline)
	}
	parted, err := f.parted(ctx, expected.Timeline, found)
	if err != nil {
		return expected, err
	}
	obstacles, err := f.obstacles(ctx, expected, parted)
	if err != nil {
		return expected, err
	}
	if err := f.move(ctx, expected, found, parted, obstacles); err != nil {
		return expected, err
	}
	expected.Timeline = found.timeline
	return expected, nil
}

// parted is where the timeline that the migration knows ended on the way to the one that answers; 0 = it is no part of it.
func (f Failover) parted(ctx context.Context, from int, found identity) (migration.LSN, error) {
	conn, err := f.Source.Replication(ctx, f.Lane.Session(), nil)
	if err != nil {
		return 0, err
	}
	defer closeReplication(conn)
	// Where several hosts are named, this may be another one.
	system, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return 0, f.Source.Fault("identify", "", err)
	}
	if system.SystemID != found.system || int(system.Timeline) != found.timeline {
		return 0, migration.Faultf(migration.FaultConnection, "recognise source", "", "two servers answered, on timelines %d and %d",
			found.timeline, system.Timeline)
	}
	if found.timeline < from { // the first has no history
		return 0, nil
	}
	history, err := pglogrepl.TimelineHistory(ctx, conn, system.Timeline)
	if err != nil {
		return 0, f.Source.Fault("read history of timeline", strconv.Itoa(found.timeline), err)
	}
	return endOf(from, string(history.Content))
}

// endOf finds a timeline in a history file: number, position of its end and reason, one line for each.
func endOf(timeline int, history string) (migration.LSN, error) {
	for line := range strings.Lines(history) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == strconv.Itoa(timeline) {
			return migration.ParseLSN(fields[1])
		}
	}
	return 0, nil
}

// obstacles are what the source shows; those of the target are looked at where the ledger moves.
func (f Failover) obstacles(ctx context.Context, expected Expected, parted migration.LSN) ([]string, error) {
	var obstacles []string
	switch {
	case parted == 0:
		obstacles = append(obstacles, fmt.Sprintf("its timeline does not come from timeline %d", expected.Timeline))
	case parted < expected.Applied:
		obstacles = append(obstacles, fmt.Sprintf("the target has changes up to %s, of which the source has lost those from %s on", expected.Applied, parted))
	}
	status, err := Inspect(ctx, f.Conn, expected.Slot)
	if fault, ok := migration.AsFault(err); ok && fault.Kind == migration.FaultSlotLost {
		return append(obstacles, "slot "+expected.Slot+" is not there"), nil
	}
	if err != nil {
		return nil, err
	}
	if err := status.usable(expected.Slot); err != nil {
		fault, _ := migration.AsFault(err)
		obstacles = append(obstacles, fault.Message)
	}
	if !status.Synced || status.Temporary {
		obstacles = append(obstacles, "slot "+expected.Slot+" was not kept in step by the standby (sync_replication_slots)")
	}
	if status.Confirmed > expected.Applied {
		obstacles = append(obstacles, fmt.Sprintf("its slot has forgotten changes up to %s, and the target has only those up to %s",
			status.Confirmed, expected.Applied))
	}
	return obstacles, nil
}

// readOpen counts the tables whose rows depend on transaction ids, and is asked where nothing else moves the progress.
const readOpen = `
select (select count(*) from dts_sync.tbl where migration = $1 and mode <> 'root' and (stage <> 'exact' or extra <> '{}')),
       (select count(*) from dts_sync.chunk where migration = $1 and state <> 'done'),
       (select end_lsn::text from dts_sync.progress where migration = $1)`

const moveTimeline = `
update dts_sync.migration set source_timeline = $3, notes = notes || to_jsonb($4::text)
where id = $1 and source_timeline = $2`

// forgetWrites makes every count of writes differ from the one before the copy: the new primary counts from nothing.
const forgetWrites = `
update dts_sync.tbl set writes_base = -1 where migration = $1`

// move records the new timeline, or refuses it.
func (f Failover) move(ctx context.Context, expected Expected, found identity, parted migration.LSN, obstacles []string) error {
	var refused error
	note := fmt.Sprintf("%s at %s: from timeline %d to %d; the target had the changes up to %s",
		NoteFailover, parted, expected.Timeline, found.timeline, expected.Applied)
	err := pgx.BeginFunc(ctx, f.Target, func(tx pgx.Tx) error {
		if err := f.Lane.Guard(ctx, tx); err != nil {
			return err
		}
		var tables, chunks int
		var applied string
		if err := tx.QueryRow(ctx, readOpen, f.Lane.ID).Scan(&tables, &chunks, &applied); err != nil {
			return err
		}
		if tables > 0 || chunks > 0 {
			obstacles = append(obstacles, fmt.Sprintf("tables that are not caught up with their copy: %d", max(tables, 1)))
		}
		if applied != expected.Applied.String() {
			obstacles = append(obstacles, "the target has moved on to "+applied)
		}
		if len(obstacles) > 0 {
			refused = errFailedOver(expected, found, obstacles)
			return nil
		}
		tag, err := tx.Exec(ctx, moveTimeline, f.Lane.ID, expected.Timeline, found.timeline, note)
		if err == nil && tag.RowsAffected() == 0 {
			err = errors.New("the ledger's timeline is another one")
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, forgetWrites, f.Lane.ID)
		return err
	})
	if err != nil {
		return pg.Fault(migration.Target, "record timeline of", string(f.Lane.ID), err)
	}
	if refused == nil {
		f.Logger.Warn(NoteFailover, zap.Int("from", expected.Timeline), zap.Int("to", found.timeline), zap.Stringer(migration.KeyLSN, parted))
	}
	return refused
}

func errFailedOver(expected Expected, found identity, obstacles []string) error {
	fault := migration.NewFault(migration.FaultWrongServer, "recognise source", "",
		fmt.Errorf("timeline %d answered, the migration began on timeline %d", found.timeline, expected.Timeline),
		"the source failed over, and nobody can go on exactly: "+strings.Join(obstacles, "; ")+"; "+anew)
	fault.Side = migration.Source
	return fault
}
