package bulk

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// holdersMax is how many lanes hold a table's snapshot: it outlives the loss of all but one.
const holdersMax = 2

// tableHold is a session of this lane with a snapshot that other sessions join.
type tableHold struct {
	conn  *pgx.Conn
	epoch int
}

// holdNext takes a snapshot for the table that is next, where it needs one of its own and has none.
func (w *worker) holdNext(ctx context.Context) (bool, error) {
	if !w.anyHeld {
		return false, nil
	}
	if err := w.releaseHolds(ctx); err != nil {
		return false, err
	}
	var relid uint32
	var found bool
	err := w.write(ctx, func(tx pgx.Tx) (err error) {
		relid, found, err = ledger.ClaimHold(ctx, tx, w.lane, w.from())
		return err
	})
	if err != nil || !found {
		return false, w.config.Target.Fault("claim a table to hold", "", err)
	}
	if err := w.learn(ctx, relid); err != nil {
		return false, err
	}
	t := w.tables[relid]
	err = w.holdTable(ctx, t)
	if errors.Is(err, ledger.ErrEpoch) {
		return true, nil
	}
	return err == nil, named(w.config.Target.Fault("hold a snapshot for", t.Name.String(), err), t.Name.String())
}

// holdTable begins an epoch of the table.
func (w *worker) holdTable(ctx context.Context, t ledger.Table) error {
	w.dropHold(t.OID)
	hold := ledger.TableHold{RelID: t.OID}
	var copied bool
	err := w.write(ctx, func(tx pgx.Tx) (err error) {
		hold.Epoch, copied, err = ledger.NextTableEpoch(ctx, tx, w.lane, t.OID)
		return err
	})
	if err == nil && copied {
		w.config.Log.Warn("snapshot of a table was lost, its copy begins again", zap.String(migration.KeyTable, t.Name.String()))
		err = w.write(ctx, func(tx pgx.Tx) error { return ledger.EmptyTable(ctx, tx, w.lane.ID, t) })
	}
	if err == nil {
		err = failpoint.Hit(failpoint.HoldEmptied)
	}
	if err != nil {
		return err
	}
	name, snapshot, err := w.exportOwn(ctx, t, hold.Epoch)
	if err != nil {
		return err
	}
	hold.Names, hold.Snapshot = []string{name}, snapshot
	return w.write(ctx, func(tx pgx.Tx) error { return ledger.HoldTable(ctx, tx, w.lane, hold) })
}

// exportOwn opens a session with a new snapshot that sees what the slot's did, and keeps it. It locks nothing: whoever reads
// under it locks the table, and sees that its file is the one that the snapshot knows.
func (w *worker) exportOwn(ctx context.Context, t ledger.Table, epoch int) (name, snapshot string, err error) {
	conn, err := w.config.Source.Connect(ctx, w.lane.Session())
	if err != nil {
		return "", "", err
	}
	at, err := w.including(ctx, t.Name.String(), func() (rollback func(), at position, err error) {
		if _, err := conn.Exec(ctx, "begin isolation level repeatable read read only"); err != nil {
			return nil, at, w.config.Source.Fault("begin reading", t.Name.String(), err)
		}
		at, err = w.look(ctx, conn, t.Name.String(), at)
		return func() { _, _ = conn.Exec(ctx, "rollback") }, at, err
	})
	if err == nil {
		err = w.config.Source.Fault("export a snapshot for", t.Name.String(), conn.QueryRow(ctx, "select pg_export_snapshot()").Scan(&name))
	}
	if err != nil {
		pg.Close(conn)
		return "", "", err
	}
	w.holds[t.OID] = &tableHold{conn: conn, epoch: epoch}
	return name, at.snapshot.String(), nil
}

// holdToo makes this lane the second holder of a snapshot, while there is one.
func (w *worker) holdToo(ctx context.Context, hold ledger.TableHold) error {
	if len(hold.Names) >= holdersMax || w.holds[hold.RelID] != nil {
		return nil
	}
	conn, err := w.config.Source.Connect(ctx, w.lane.Session())
	if err != nil {
		return err
	}
	var name string
	_, err = conn.Exec(ctx, "begin isolation level repeatable read read only; set transaction snapshot "+migration.Literal(hold.Names[0]),
		pgx.QueryExecModeSimpleProtocol)
	if err == nil {
		err = conn.QueryRow(ctx, "select pg_export_snapshot() where txid_current_snapshot()::text = $1", hold.Snapshot).Scan(&name)
	}
	if err != nil {
		pg.Close(conn)
		if snapshotGone(err) || errors.Is(err, pgx.ErrNoRows) {
			return nil // whoever copies finds out
		}
		return w.config.Source.Fault("join the snapshot", hold.Names[0], err)
	}
	var added bool
	err = w.write(ctx, func(tx pgx.Tx) (err error) {
		added, err = ledger.AddHolder(ctx, tx, w.lane.ID, hold, name, holdersMax)
		return err
	})
	if err != nil || !added {
		pg.Close(conn)
		return w.config.Target.Fault("tell the holders of a snapshot", "", err)
	}
	w.holds[hold.RelID] = &tableHold{conn: conn, epoch: hold.Epoch}
	return nil
}

// releaseHolds frees the source of snapshots that have served.
func (w *worker) releaseHolds(ctx context.Context) error {
	if len(w.holds) == 0 {
		return nil
	}
	var relids []uint32
	for relid := range w.holds {
		relids = append(relids, relid)
	}
	epochs, err := w.book().TableEpochs(ctx, relids)
	if err != nil {
		return w.config.Target.Fault("read ledger of", string(w.lane.ID), err)
	}
	for relid, hold := range w.holds {
		if epochs[relid] != hold.epoch {
			w.dropHold(relid)
		}
	}
	return nil
}

func (w *worker) dropHold(relid uint32) {
	if hold := w.holds[relid]; hold != nil {
		pg.Close(hold.conn)
		delete(w.holds, relid)
	}
}

// loseNames says which names of a table's snapshot were found gone.
func (w *worker) loseNames(ctx context.Context, hold ledger.TableHold, names []string) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	if len(names) == len(hold.Names) {
		w.config.Log.Warn("gave up the snapshot of a table", zap.String(migration.KeyTable, w.tables[hold.RelID].Name.String()))
	}
	return w.config.Target.Fault("tell the holders of a snapshot", "", w.write(ctx, func(tx pgx.Tx) error {
		return ledger.DropHolders(ctx, tx, w.lane.ID, hold, names)
	}))
}

// lostNames are those of a snapshot that could not be joined.
type lostNames struct{ names []string }

func (l *lostNames) Error() string { return "the snapshot of the table was lost" }

// snapshotGone tells that there is no snapshot of that name, before and since version 17, or that its holder has ended.
func snapshotGone(err error) bool {
	return slices.Contains([]string{"22023", "42704", "55000"}, pg.SQLState(err))
}
