package ledger

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Where changes follow the copy, a table that is cut by the place of its rows has a snapshot of its own, which a lane holds
// beside its work. Its time is an epoch of that table, and ends like that of all tables: NextTableEpoch lets nothing more of
// the old one commit, EmptyTable removes its rows and makes its chunks undone, HoldTable tells the new snapshot. Whoever
// dies between is followed by another lane that does all of it again; the table cannot be complete meanwhile.

// TableHold is the snapshot that a table's chunks are copied under.
type TableHold struct {
	RelID    uint32
	Epoch    int
	Names    []string // of the sessions that hold it, as SET TRANSACTION SNAPSHOT takes them
	Snapshot string
}

// claimHold looks at the table of the chunk that would be claimed next, so that no snapshot is held long before it is of use.
const claimHold = `
update dts_sync.tbl t set holder = $2
from (select relid from dts_sync.chunk
      where migration = $1 and state = 'todo' and ord >= $4 and (retry_at is null or retry_at <= clock_timestamp())
      order by ord limit 1 for update skip locked) f
where t.migration = $1 and t.relid = f.relid and t.held and t.stage = 'planned' and t.snapshot_names = '{}'
  and (t.holder is null or t.holder = $2 or not exists (
      select from dts_sync.lane l where l.migration = $1 and t.holder = $3 || l.lane || '/' || l.token))
returning t.relid`

// ClaimHold takes the table that is next to be copied, if it lacks a snapshot and no other lane is about to take one. It
// looks at what ClaimChunk would look at.
func ClaimHold(ctx context.Context, tx pgx.Tx, lane Lane, from int64) (uint32, bool, error) {
	var relid uint32
	err := tx.QueryRow(ctx, claimHold, lane.ID, lane.Session(), "pgdts/"+lane.ID.Short()+"/", from).Scan(&relid)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return relid, err == nil, err
}

const nextTableEpoch = `
update dts_sync.tbl t set snapshot_epoch = snapshot_epoch + 1, snapshot_names = '{}', snapshot = null
where migration = $1 and relid = $2 and holder = $3 and stage = 'planned'
returning snapshot_epoch, exists (
    select from dts_sync.chunk c where c.migration = $1 and c.relid = $2 and c.state = 'done')`

// NextTableEpoch gives up the snapshot that the table had before, and tells whether something was copied under it. Like all
// that a holder does it fails by ErrEpoch when another lane has taken the table's hold meanwhile.
func NextTableEpoch(ctx context.Context, tx pgx.Tx, lane Lane, relid uint32) (epoch int, copied bool, err error) {
	err = tx.QueryRow(ctx, nextTableEpoch, lane.ID, relid, lane.Session()).Scan(&epoch, &copied)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrEpoch
	}
	return epoch, copied, err
}

const undoneTableChunks = `
update dts_sync.chunk set state = 'todo', snap = null, snap_lsn = null, rows = 0, kept = 0, bytes = 0, token = null, retry_at = null
where migration = $1 and relid = $2 and state = 'done'`

// EmptyTable removes what was copied under the snapshot before. It is for tables that this migration has made. It waits for
// chunks that are being written, which fail when they would commit.
func EmptyTable(ctx context.Context, tx pgx.Tx, id migration.ID, table Table) error {
	if _, err := tx.Exec(ctx, "truncate only "+table.Target.SQL()); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, undoneTableChunks, id, table.OID)
	return err
}

const holdTable = `
update dts_sync.tbl set snapshot_names = array[$4], snapshot = $5, holder = null
where migration = $1 and relid = $2 and snapshot_epoch = $3 and holder = $6`

// HoldTable tells the snapshot of the epoch that NextTableEpoch began: from now on the table's chunks can be claimed.
func HoldTable(ctx context.Context, tx pgx.Tx, lane Lane, hold TableHold) error {
	tag, err := tx.Exec(ctx, holdTable, lane.ID, hold.RelID, hold.Epoch, hold.Names[0], hold.Snapshot, lane.Session())
	if err == nil && tag.RowsAffected() != 1 {
		err = ErrEpoch
	}
	return err
}

// AddHolder tells the name under which one more session holds the snapshot. False when it is not wanted any more.
func AddHolder(ctx context.Context, tx pgx.Tx, id migration.ID, hold TableHold, name string, holders int) (bool, error) {
	tag, err := tx.Exec(ctx, `update dts_sync.tbl set snapshot_names = snapshot_names || $4::text
		where migration = $1 and relid = $2 and snapshot_epoch = $3 and cardinality(snapshot_names) between 1 and $5 - 1`,
		id, hold.RelID, hold.Epoch, name, holders)
	return tag.RowsAffected() == 1, err
}

// DropHolders says that nobody holds the snapshot under those names any more. With the last name the epoch is over.
func DropHolders(ctx context.Context, tx pgx.Tx, id migration.ID, hold TableHold, names []string) error {
	_, err := tx.Exec(ctx, `update dts_sync.tbl
		set snapshot_names = array(select n from unnest(snapshot_names) with ordinality u (n, i) where n <> all ($4::text[]) order by i)
		where migration = $1 and relid = $2 and snapshot_epoch = $3`, id, hold.RelID, hold.Epoch, names)
	return err
}

// lockTableEpoch keeps the table's epoch from changing until the transaction ends.
func lockTableEpoch(ctx context.Context, tx pgx.Tx, id migration.ID, relid uint32) (int, error) {
	var epoch int
	err := tx.QueryRow(ctx, "select snapshot_epoch from dts_sync.tbl where migration = $1 and relid = $2 for share", id, relid).Scan(&epoch)
	return epoch, err
}

// TableEpochs reads the epochs of tables that are still to be copied.
func (l Ledger) TableEpochs(ctx context.Context, relids []uint32) (map[uint32]int, error) {
	rows, err := l.Conn.Query(ctx, `select relid, snapshot_epoch from dts_sync.tbl
		where migration = $1 and relid = any ($2) and stage = 'planned' and snapshot_names <> '{}'`, l.ID, relids)
	if err != nil {
		return nil, err
	}
	epochs := map[uint32]int{}
	var relid uint32
	var epoch int
	_, err = pgx.ForEachRow(rows, []any{&relid, &epoch}, func() error {
		epochs[relid] = epoch
		return nil
	})
	return epochs, err
}
