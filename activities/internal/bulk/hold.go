package bulk

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// holdEvery is how often the holder looks whether its session lives and its snapshot is still wanted.
	holdEvery = 2 * time.Second
	// pingMax is how long the source may take to answer. What was sent to a server that is gone is repeated for a quarter of
	// an hour before the network says so.
	pingMax = 30 * time.Second
)

// Hold keeps the snapshot that all tables are copied under when no changes follow. It exports it, tells it in the ledger,
// and holds it until ctx ends, or until every chunk is copied: then it returns nil and frees the source of it. Another call
// cannot have the same snapshot. It removes what was copied under the one before, and lets all of it be copied again; where
// that may not be removed it refuses, as drift. A session that is lost is a fault of kind connection.
func Hold(ctx context.Context, config Config, lane ledger.Lane, report func(migration.Beat)) error {
	h := &holder{config: config.withDefaults(), lane: lane, report: report}
	defer h.close()
	if err := h.connect(ctx); err != nil {
		return err
	}
	epoch, err := lane.NextEpoch(ctx, h.target)
	if err != nil || epoch == 0 {
		return h.config.Target.Fault("give up the snapshot of", string(lane.ID), err)
	}
	report(migration.Beat{Message: "taking a snapshot of the source"})
	if err := h.book().EmptyCopied(ctx, lane, report); err != nil {
		return h.config.Target.Fault("empty tables of", string(lane.ID), err)
	}
	if err := failpoint.Hit(failpoint.HoldEmptied); err != nil {
		return err
	}
	held, err := h.export(ctx)
	if err != nil {
		return err
	}
	held.Epoch = epoch
	if err := lane.HoldEpoch(ctx, h.target, held); err != nil {
		return h.config.Target.Fault("record the snapshot of", string(lane.ID), err)
	}
	h.config.Log.Info("snapshot held", zap.Int("epoch", epoch), zap.String("snapshot", held.Snapshot.String()))
	return h.keep(ctx, held)
}

type holder struct {
	config         Config
	lane           ledger.Lane
	report         func(migration.Beat)
	source, target *pgx.Conn
}

func (h *holder) close() {
	pg.Close(h.source)
	pg.Close(h.target)
}

func (h *holder) book() ledger.Ledger { return ledger.Ledger{ID: h.lane.ID, Conn: h.target} }

func (h *holder) connect(ctx context.Context) (err error) {
	if h.target, err = h.config.Target.Connect(ctx, h.lane.Session()); err != nil {
		return err
	}
	if h.source, err = h.config.Source.Connect(ctx, h.lane.Session()); err != nil {
		return err
	}
	// An earlier attempt that is frozen would hold back the source's clean-up of dead rows for ever.
	return h.config.Source.Fault("end earlier sessions", "", h.lane.TerminateEarlier(ctx, h.source))
}

const exportSnapshot = `
select pg_export_snapshot(), txid_current_snapshot()::text, pg_walfile_name(pg_current_wal_insert_lsn())`

// export begins the transaction whose snapshot is held. A standby's does not list what runs, and its server may change.
func (h *holder) export(ctx context.Context) (ledger.Held, error) {
	var held ledger.Held
	known, err := h.book().Read(ctx)
	if err != nil {
		return held, h.config.Target.Fault("read ledger of", string(h.lane.ID), err)
	}
	var standby bool
	if err := h.source.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby); err != nil {
		return held, h.config.Source.Fault("look at", "", err)
	}
	if standby {
		return held, wrongServer("", "the server is in recovery: it is a standby")
	}
	if held.SystemID, err = systemID(ctx, h.source); err != nil {
		return held, h.config.Source.Fault("identify", "", err)
	}
	if known.SystemID != "" && held.SystemID != "" && known.SystemID != held.SystemID {
		return held, wrongServer("", fmt.Sprintf("system %s answers, the migration began with system %s", held.SystemID, known.SystemID))
	}
	if _, err := h.source.Exec(ctx, "begin isolation level repeatable read read only"); err != nil {
		return held, h.config.Source.Fault("begin reading", "", err)
	}
	var snapshot, walFile string
	if err := h.source.QueryRow(ctx, exportSnapshot).Scan(&held.Name, &snapshot, &walFile); err != nil {
		return held, h.config.Source.Fault("export the snapshot", "", err)
	}
	if held.Timeline, err = timelineOf(walFile); err != nil {
		return held, err
	}
	held.Snapshot, err = migration.ParseSnapshot(snapshot)
	return held, err
}

// keep ends with ctx, with the copy, or with the snapshot.
func (h *holder) keep(ctx context.Context, held ledger.Held) error {
	for {
		h.report(migration.Beat{Message: "holding the snapshot of the copy"})
		if err := sleep(ctx, holdEvery); err != nil {
			return err
		}
		if err := h.ping(ctx); err != nil {
			return h.lost(ctx, err)
		}
		if err := h.book().Renew(ctx, h.lane.Run); err != nil {
			return h.config.Target.Fault("renew the lease on", string(h.lane.ID), err)
		}
		now, err := h.book().Read(ctx)
		if err != nil {
			return h.config.Target.Fault("read ledger of", string(h.lane.ID), err)
		}
		if now.SnapshotEpoch != held.Epoch || now.SnapshotName != held.Name {
			return h.lost(ctx, errors.New("a table was truncated or rewritten since, so that the snapshot cannot show it any more"))
		}
		left, err := h.book().ChunksLeft(ctx)
		if err != nil {
			return h.config.Target.Fault("read ledger of", string(h.lane.ID), err)
		}
		if now.Planned && !left {
			return nil
		}
	}
}

func (h *holder) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingMax)
	defer cancel()
	_, err := h.source.Exec(ctx, "select 1")
	return err
}

// lost is of kind connection whatever the server said: the next attempt takes another snapshot.
func (h *holder) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fault := migration.NewFault(migration.FaultConnection, "source hold the snapshot", "", err, "")
	fault.Side, fault.SQLState = migration.Source, pg.SQLState(err)
	return fault
}

// systemID is "" where the role may not ask.
func systemID(ctx context.Context, conn *pgx.Conn) (string, error) {
	var system string
	err := conn.QueryRow(ctx, "select system_identifier::text from pg_control_system()").Scan(&system)
	if pg.SQLState(err) == "42501" {
		return "", nil
	}
	return system, err
}

// timelineOf reads it off the name of a log file.
func timelineOf(walFile string) (int, error) {
	timeline, err := strconv.ParseUint(walFile[:min(8, len(walFile))], 16, 32)
	if err != nil {
		return 0, fmt.Errorf("timeline of log file %q: %w", walFile, err)
	}
	return int(timeline), nil
}
