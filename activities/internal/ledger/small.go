package ledger

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Small tables that are one chunk go several at a time: one transaction copies them, and takes them for the lane that will
// finish them. A chunk is among several only once. Whoever finds that it was claimed before copies it by itself, so that
// one that kills the process does not take others with it again and again.

// claimSmall counts no attempts: what is done together is one, and counts at the first.
const claimSmall = `
with next as (
    select c.relid, c.no
    from dts_sync.chunk c join dts_sync.tbl t on t.migration = c.migration and t.relid = c.relid
    where c.migration = $1 and c.state = 'todo' and c.ord >= $4 and c.token is null and c.retry_at is null
      and c.lo is null and c.hi is null and c.bytes_est <= $5 and not t.held
    order by c.ord limit $6 for update of c skip locked)
update dts_sync.chunk c set token = $2, retry_at = clock_timestamp() + $3::interval
from next n where c.migration = $1 and c.relid = n.relid and c.no = n.no
returning c.relid, c.no, c.bytes_est, c.ord`

// ClaimSmall takes chunks that nobody has claimed before, behind a place in the order of claiming: whole tables of so many
// bytes at most. Like ClaimChunk it binds nobody; LockSmall does.
func ClaimSmall(ctx context.Context, tx pgx.Tx, lane Lane, from, bytes int64, most int) ([]Chunk, error) {
	rows, err := tx.Query(ctx, claimSmall, lane.ID, lane.Token, reservation.String(), from, bytes, most)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Chunk, error) {
		c := Chunk{Fresh: true}
		err := row.Scan(&c.RelID, &c.No, &c.Bytes, &c.Ord)
		c.Hold.RelID = c.RelID
		return c, err
	})
}

const lockSmall = `
select relid from dts_sync.chunk
where migration = $1 and relid = any ($2) and lo is null and hi is null and state = 'todo'
order by relid for update`

// LockSmall is LockChunk for tables that are one chunk. It returns those that nobody else has copied, and fails when somebody
// works on one of them.
func LockSmall(ctx context.Context, tx pgx.Tx, id migration.ID, relids []uint32) (mine map[uint32]bool, err error) {
	mine = map[uint32]bool{}
	batch := &pgx.Batch{}
	batch.Queue("set local lock_timeout = '1s'")
	batch.Queue(lockSmall, id, relids).Query(func(rows pgx.Rows) error {
		var relid uint32
		_, err := pgx.ForEachRow(rows, []any{&relid}, func() error { mine[relid] = true; return nil })
		return err
	})
	batch.Queue("set local lock_timeout = 0")
	return mine, tx.SendBatch(ctx, batch).Close()
}

const finishSmall = `
with done as (
    update dts_sync.chunk c
    set state = 'done', snap = $2, snap_lsn = $3::text::pg_lsn, rows = u.rows, bytes = u.bytes, token = $4,
        attempts = greatest(attempts, 1), failed_at = null, retry_at = null, error = null
    from unnest($5::oid[], $6::bigint[], $7::bigint[]) u (relid, rows, bytes)
    where c.migration = $1 and c.relid = u.relid and c.lo is null and c.hi is null and c.state = 'todo'
    returning c.relid)
update dts_sync.tbl t set stage = 'copied', smin = $2, smax = $2, hi_lsn = $3::text::pg_lsn, finisher = $8
from done where t.migration = $1 and t.relid = done.relid and t.stage = 'planned'`

// SmallCopied is what one transaction has written into several tables, under one snapshot.
type SmallCopied struct {
	Snapshot migration.Snapshot
	LSN      migration.LSN // insert position read after the snapshot, flushed on the source
	Epoch    int           // of the snapshot, where it is held for all tables; else 0
	RelIDs   []uint32
	Rows     []int64 // of each
	Bytes    []int64 // of the COPY stream of each
}

// FinishSmall marks tables as copied, in the transaction that wrote their rows (I1), and as the lane's to be finished. All
// have the one snapshot. It fails by ErrEpoch when that has been given up.
func FinishSmall(ctx context.Context, tx pgx.Tx, lane Lane, done SmallCopied) error {
	if done.Epoch > 0 {
		epoch, err := lockEpoch(ctx, tx, lane.ID)
		if err == nil && epoch != done.Epoch {
			err = ErrEpoch
		}
		if err != nil {
			return err
		}
	}
	tag, err := tx.Exec(ctx, finishSmall, lane.ID, done.Snapshot.String(), done.LSN.String(), lane.Token,
		done.RelIDs, done.Rows, done.Bytes, lane.Session())
	if err == nil && tag.RowsAffected() != int64(len(done.RelIDs)) {
		err = migration.Faultf(migration.FaultBug, "finish small tables", "", "%d of %d were not to be copied although they were locked",
			int64(len(done.RelIDs))-tag.RowsAffected(), len(done.RelIDs))
	}
	return err
}

const giveBack = `
update dts_sync.chunk set token = null, retry_at = null
where (migration, relid, no) in (
    select migration, relid, no from dts_sync.chunk
    where migration = $1 and relid = any ($2) and lo is null and hi is null and state = 'todo' and token = $3
    for update skip locked)`

// GiveBack lets others claim whole tables that were claimed and not begun.
func GiveBack(ctx context.Context, tx pgx.Tx, lane Lane, relids []uint32) error {
	_, err := tx.Exec(ctx, giveBack, lane.ID, relids, lane.Token)
	return err
}

// reservation keeps two lanes from counting an attempt at the same chunk in the moment between a claim and its lock.
const reservation = 2 * time.Second
