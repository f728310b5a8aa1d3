package ledger

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Where no changes follow the copy, all tables are copied under one snapshot that a session on the source holds. Its time
// is an epoch. When the snapshot is lost, what was copied under it is of no use beside what another one shows: NextEpoch
// lets nothing more of the old epoch commit, EmptyCopied removes its rows, and HoldEpoch makes its chunks undone and tells
// the name of the new snapshot, in one transaction. Whoever dies between is followed by somebody who does all of it again,
// and meanwhile the copy cannot end: at least one chunk is undone and nothing to copy it under.

// ErrEpoch means that the snapshot under which something was copied has been given up since.
var ErrEpoch = errors.New("the snapshot of the copy was given up")

// lockEpoch keeps the epoch from changing until the transaction ends. It is for the last moments of one: the lease cannot
// be renewed meanwhile.
func lockEpoch(ctx context.Context, tx pgx.Tx, id migration.ID) (int, error) {
	var epoch int
	err := tx.QueryRow(ctx, "select snapshot_epoch from dts_sync.migration where id = $1 for share", id).Scan(&epoch)
	return epoch, err
}

const nextEpoch = `
update dts_sync.migration set snapshot_epoch = snapshot_epoch + 1, snapshot_name = null where id = $1
returning snapshot_epoch, planned`

// NextEpoch gives up the snapshot that was held before, if any: no chunk that was read under it commits any more. It
// returns the number of the next epoch; 0, with nothing changed, when every chunk is copied, so that none is needed.
func (n Lane) NextEpoch(ctx context.Context, conn *pgx.Conn) (int, error) {
	var epoch int
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := n.Guard(ctx, tx); err != nil {
			return err
		}
		var planned bool
		if err := tx.QueryRow(ctx, nextEpoch, n.ID).Scan(&epoch, &planned); err != nil || !planned {
			return err
		}
		left, err := chunksLeft(ctx, tx, n.ID)
		if err == nil && !left {
			err = errNoneLeft
		}
		return err
	})
	if errors.Is(err, errNoneLeft) {
		return 0, nil
	}
	return epoch, err
}

// errNoneLeft rolls back.
var errNoneLeft = errors.New("no chunk is left")

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func chunksLeft(ctx context.Context, conn querier, id migration.ID) (bool, error) {
	var left bool
	err := conn.QueryRow(ctx, "select exists (select from dts_sync.chunk where migration = $1 and state = 'todo')", id).Scan(&left)
	return left, err
}

// ChunksLeft reports whether a chunk is still to be copied.
func (l Ledger) ChunksLeft(ctx context.Context) (bool, error) { return chunksLeft(ctx, l.Conn, l.ID) }

// Held is a snapshot that a session on the source holds for the whole copy.
type Held struct {
	Epoch    int
	Name     string // as SET TRANSACTION SNAPSHOT takes it
	Snapshot migration.Snapshot
	SystemID string // "" where the role may not ask
	Timeline int
}

const holdEpoch = `
update dts_sync.migration set snapshot_name = $3, start_snapshot = $4, source_sysid = coalesce(nullif($5, ''), source_sysid),
       source_timeline = $6
where id = $1 and snapshot_epoch = $2`

const undoneChunks = `
update dts_sync.chunk set state = 'todo', snap = null, snap_lsn = null, rows = 0, kept = 0, bytes = 0, token = null, retry_at = null
where migration = $1 and state = 'done'`

// undoneTables leaves alone roots, which have no rows, and keys and indexes that were built.
const undoneTables = `
update dts_sync.tbl set stage = 'planned', smin = null, smax = null, hi_lsn = null, finisher = null, failed_at = null,
       retry_at = null, error = null
where migration = $1 and mode <> 'root' and stage <> 'planned'`

// HoldEpoch tells the snapshot of the epoch that NextEpoch began. EmptyCopied has removed the rows of the chunks that it
// makes undone.
func (n Lane) HoldEpoch(ctx context.Context, conn *pgx.Conn, held Held) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := n.Guard(ctx, tx); err != nil {
			return err
		}
		// First: it waits for transactions that complete a table, and none begins before this one ends.
		tag, err := tx.Exec(ctx, holdEpoch, n.ID, held.Epoch, held.Name, held.Snapshot.String(), held.SystemID, held.Timeline)
		if err == nil && tag.RowsAffected() != 1 {
			err = ErrEpoch
		}
		if err != nil {
			return err
		}
		for _, statement := range []string{undoneChunks, undoneTables, "delete from dts_sync.kept where migration = $1"} {
			if _, err := tx.Exec(ctx, statement, n.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// GiveUpEpoch says that the snapshot of an epoch cannot serve any more, in the caller's guarded transaction. Its holder
// notices. A later epoch stays.
func (n Lane) GiveUpEpoch(ctx context.Context, tx pgx.Tx, epoch int) error {
	_, err := tx.Exec(ctx, "update dts_sync.migration set snapshot_name = null where id = $1 and snapshot_epoch = $2", n.ID, epoch)
	return err
}
