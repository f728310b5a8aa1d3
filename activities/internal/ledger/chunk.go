package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Chunk is a half-open range [Low, High) of a table's key; nil is unbounded. Bounds are text in the canonical settings,
// compared by the source alone.
type Chunk struct {
	RelID     uint32
	No        int
	Low, High []string
	Bytes     int64 // estimate, heap and TOAST on the source
	Attempts  int
	Ord       int64     // its place in the order of claiming
	Fresh     bool      // nobody has claimed it before
	Hold      TableHold // Names are nil unless the table has a snapshot of its own
}

var (
	tableInto = []string{
		"migration", "relid", "schema", "name", "target_schema", "target_name", "mode", "stage", "published", "key", "def", "fingerprint",
		"est_rows", "est_bytes", "writes_base", "was_empty", "held",
	}
	chunkInto = []string{"migration", "relid", "no", "ord", "lo", "hi", "bytes_est"}
)

// WritePlan records tables and chunks and marks the migration as planned. Chunks of the largest table are claimed first,
// so that the copy does not end with one lane at work. The transaction is the caller's, and has called Guard.
func WritePlan(ctx context.Context, tx pgx.Tx, id migration.ID, tables []Table, chunks []Chunk) error {
	size, cut := map[uint32]int64{}, map[uint32]bool{}
	for _, c := range chunks {
		cut[c.RelID] = true
	}
	for _, t := range tables {
		size[t.OID] = t.Bytes
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"dts_sync", "tbl"}, tableInto, pgx.CopyFromSlice(len(tables), func(i int) ([]any, error) {
		return tableRow(id, tables[i], cut[tables[i].OID])
	}))
	if err != nil {
		return err
	}
	ordered := slices.SortedStableFunc(slices.Values(chunks), func(a, b Chunk) int {
		return cmp.Or(cmp.Compare(size[b.RelID], size[a.RelID]), cmp.Compare(a.RelID, b.RelID))
	})
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"dts_sync", "chunk"}, chunkInto, pgx.CopyFromSlice(len(ordered), func(i int) ([]any, error) {
		c := ordered[i]
		return []any{string(id), c.RelID, int32(c.No), int64(i), c.Low, c.High, c.Bytes}, nil
	}))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "update dts_sync.migration set planned = true where id = $1", id)
	return err
}

// tableRow is what tableInto names. Of a root, or where a migration begins with the changes, nothing is copied.
func tableRow(id migration.ID, t Table, cut bool) ([]any, error) {
	rows, bytes := t.Rows, t.Bytes
	if !cut {
		rows, bytes = 0, 0
	}
	def, err := json.Marshal(t.Table)
	return []any{
		string(id), t.OID, t.Name.Schema, t.Name.Name, t.Target.Schema, t.Target.Name, string(t.Mode), string(t.Stage), t.Published,
		append([]string{}, t.Key...), def, t.Fingerprint(), rows, bytes, t.WriteBase, t.WasEmpty, t.Held,
	}, err
}

const narrowChunk = `
update dts_sync.chunk set hi = $4, bytes_est = $5, retry_at = null where migration = $1 and relid = $2 and no = $3 and state = 'todo'`

// addPart numbers the parts behind all others of the table; they are claimed in the place of the whole.
const addPart = `
insert into dts_sync.chunk (migration, relid, no, ord, lo, hi, bytes_est)
select migration, relid, (select max(no) + 1 from dts_sync.chunk where migration = $1 and relid = $2), ord, $4, $5, $6
from dts_sync.chunk where migration = $1 and relid = $2 and no = $3`

// SplitChunk makes several chunks of one that is not done, at bounds inside it. When somebody else has it, nothing changes.
func SplitChunk(ctx context.Context, tx pgx.Tx, id migration.ID, c Chunk, bounds [][]string) error {
	mine, err := LockChunk(ctx, tx, id, c)
	if err != nil || !mine {
		return err
	}
	// The numbers of parts must not be given twice.
	if _, err := tx.Exec(ctx, "select from dts_sync.tbl where migration = $1 and relid = $2 for update", id, c.RelID); err != nil {
		return err
	}
	part := c.Bytes / int64(len(bounds)+1)
	if _, err := tx.Exec(ctx, narrowChunk, id, c.RelID, c.No, bounds[0], c.Bytes-part*int64(len(bounds))); err != nil {
		return err
	}
	for i, low := range bounds {
		high := c.High
		if i+1 < len(bounds) {
			high = bounds[i+1]
		}
		if _, err := tx.Exec(ctx, addPart, id, c.RelID, c.No, low, high, part); err != nil {
			return err
		}
	}
	return nil
}

// PutOff leaves a chunk for later without counting that as a failure.
func PutOff(ctx context.Context, tx pgx.Tx, id migration.ID, c Chunk, pause time.Duration) error {
	_, err := tx.Exec(ctx, `update dts_sync.chunk set retry_at = clock_timestamp() + $4::interval
		where migration = $1 and relid = $2 and no = $3 and state = 'todo'`, id, c.RelID, c.No, pause.String())
	return err
}

const claimChunk = `
with next as (
    select c.relid, c.no, c.token is null as fresh
    from dts_sync.chunk c join dts_sync.tbl t on t.migration = c.migration and t.relid = c.relid
    where c.migration = $1 and c.state = 'todo' and c.ord >= $4 and (c.retry_at is null or c.retry_at <= clock_timestamp())
      and (not t.held or t.snapshot_names <> '{}')
    order by c.ord limit 1 for update of c skip locked)
update dts_sync.chunk c set attempts = attempts + 1, token = $2, retry_at = clock_timestamp() + $3::interval
from next n, dts_sync.tbl t
where c.migration = $1 and c.relid = n.relid and c.no = n.no and t.migration = $1 and t.relid = n.relid
returning c.relid, c.no, c.lo, c.hi, c.bytes_est, c.attempts, c.ord, n.fresh, t.snapshot_epoch, t.snapshot_names, coalesce(t.snapshot, '')`

// ClaimChunk counts an attempt at the next chunk that is due, of the largest table first. It passes over chunks that
// somebody works on, and those whose table lacks its snapshot, and never waits. The claim binds nobody: LockChunk, in the
// transaction that copies, does. from is where in the order of claiming it looks first: what is done leaves entries in the
// index that nobody can clean up while a transaction of the target is older, so that a claim from the beginning costs more
// the more is done.
func ClaimChunk(ctx context.Context, tx pgx.Tx, lane Lane, from int64) (Chunk, bool, error) {
	var c Chunk
	err := tx.QueryRow(ctx, claimChunk, lane.ID, lane.Token, reservation.String(), from).
		Scan(&c.RelID, &c.No, &c.Low, &c.High, &c.Bytes, &c.Attempts, &c.Ord, &c.Fresh, &c.Hold.Epoch, &c.Hold.Names, &c.Hold.Snapshot)
	if errors.Is(err, pgx.ErrNoRows) {
		if from > 0 {
			return ClaimChunk(ctx, tx, lane, 0)
		}
		return c, false, nil
	}
	c.Hold.RelID = c.RelID
	return c, err == nil, err
}

const lockChunk = `
select true from dts_sync.chunk where migration = $1 and relid = $2 and no = $3 and state = 'todo' for update`

// LockChunk takes the chunk's row until the transaction ends, so that of two attempts one writes. False when it is done,
// or when somebody else has it: then the transaction has failed. It waits a moment, because a claim that looks for
// another chunk may hold the row until it has seen that this one is reserved.
func LockChunk(ctx context.Context, tx pgx.Tx, id migration.ID, c Chunk) (bool, error) {
	var locked bool
	batch := &pgx.Batch{}
	batch.Queue("set local lock_timeout = '1s'")
	batch.Queue(lockChunk, id, c.RelID, c.No).QueryRow(func(row pgx.Row) error { return row.Scan(&locked) })
	batch.Queue("set local lock_timeout = 0")
	err := tx.SendBatch(ctx, batch).Close()
	if errors.Is(err, pgx.ErrNoRows) || pg.SQLState(err) == "55P03" {
		return false, nil
	}
	return locked, err
}

// Copied is what a chunk's transaction has written, and under which snapshot it was read.
type Copied struct {
	Snapshot migration.Snapshot
	LSN      migration.LSN // insert position read after the snapshot, flushed on the source
	Rows     int64         // written
	Kept     int64         // not written, because the target has their key
	Bytes    int64         // of the COPY stream
	// Epoch is of the snapshot that is held for all tables, TableEpoch of the one for this table; 0 where there is none.
	Epoch, TableEpoch int
}

const finishChunk = `
update dts_sync.chunk set state = 'done', snap = $4, snap_lsn = $5::text::pg_lsn, rows = $6, kept = $7, bytes = $8, token = $9,
       failed_at = null, retry_at = null, error = null
where migration = $1 and relid = $2 and no = $3 and state = 'todo'
returning not exists (
    select from (select from dts_sync.chunk o where o.migration = $1 and o.relid = $2 and o.no <> $3 and o.state = 'todo'
                 order by o.no desc limit 1) o)`

// FinishChunk marks the chunk as done, in the transaction that wrote its rows (I1), and tells whether it may have been the
// table's last: of two that commit at once each may see the other undone. It looks from the table's end, where the chunks
// are that are claimed last: from its beginning, every chunk would be compared with all that are done. It fails by ErrEpoch when the snapshot
// that they were read under has been given up; otherwise no snapshot is, until the transaction ends.
func FinishChunk(ctx context.Context, tx pgx.Tx, lane Lane, c Chunk, done Copied) (last bool, err error) {
	if done.TableEpoch > 0 {
		epoch, err := lockTableEpoch(ctx, tx, lane.ID, c.RelID)
		if err == nil && epoch != done.TableEpoch {
			err = ErrEpoch
		}
		if err != nil {
			return false, err
		}
	}
	if done.Epoch > 0 {
		epoch, err := lockEpoch(ctx, tx, lane.ID)
		if err == nil && epoch != done.Epoch {
			err = ErrEpoch
		}
		if err != nil {
			return false, err
		}
	}
	err = tx.QueryRow(ctx, finishChunk, lane.ID, c.RelID, c.No, done.Snapshot.String(), done.LSN.String(), done.Rows,
		done.Kept, done.Bytes, lane.Token).Scan(&last)
	if errors.Is(err, pgx.ErrNoRows) {
		err = migration.Faultf(migration.FaultBug, "finish chunk", "", "the chunk's row was done although it was locked")
	}
	return last, err
}

// failChunk doubles the pause with the age of the outage: one second at first, thirty at most.
const failChunk = `
update dts_sync.chunk c set failed_at = coalesce(failed_at, clock_timestamp()), error = $4,
       retry_at = clock_timestamp() + greatest('1 s', least('30 s', clock_timestamp() - coalesce(failed_at, clock_timestamp())))
where (migration, relid, no) = (
    select migration, relid, no from dts_sync.chunk
    where migration = $1 and relid = $2 and no = $3 and state = 'todo' for update skip locked)
returning extract(epoch from clock_timestamp() - failed_at)::float8`

// FailChunk records why an attempt failed and when the next is due, by the target's clock. It returns how long the
// chunk has been failing; 0 when somebody else works on it already.
func FailChunk(ctx context.Context, tx pgx.Tx, id migration.ID, c Chunk, message string) (time.Duration, error) {
	return outage(tx.QueryRow(ctx, failChunk, id, c.RelID, c.No, message))
}

func outage(row pgx.Row) (time.Duration, error) {
	var seconds float64
	err := row.Scan(&seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return time.Duration(seconds * float64(time.Second)), err
}

const completeTable = `
select t.relid, array_agg(c.snap), (array_agg(c.snap_lsn order by c.snap_lsn desc))[1]::text
from (select relid from dts_sync.tbl t
      where migration = $1 and stage = 'planned' and mode <> 'root'%s
        and not exists (select from dts_sync.chunk c where c.migration = $1 and c.relid = t.relid and c.state = 'todo')
      for update skip locked) t
join dts_sync.chunk c on c.migration = $1 and c.relid = t.relid
group by t.relid`

// Complete moves tables without an undone chunk to StageCopied: all of them, or the one named. Two lanes that finish
// the last two chunks at once each see the other's as undone, so lanes without work call it for all tables. Chunks that
// are to be copied again, because their snapshot is lost, wait for it: it must not complete a table that was just emptied.
func Complete(ctx context.Context, tx pgx.Tx, id migration.ID, relid uint32) (int, error) {
	if _, err := lockEpoch(ctx, tx, id); err != nil {
		return 0, err
	}
	only := ""
	if relid != 0 {
		only = fmt.Sprintf(" and relid = %d", relid)
	}
	rows, err := tx.Query(ctx, fmt.Sprintf(completeTable, only), pgx.QueryExecModeExec, id)
	if err != nil {
		return 0, err
	}
	type complete struct {
		RelID uint32
		Snaps []string
		High  string
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[complete])
	if err != nil {
		return 0, err
	}
	for _, t := range tables {
		least, greatest, err := Extremes(t.Snaps)
		if err != nil {
			return 0, err
		}
		_, err = tx.Exec(ctx, `update dts_sync.tbl set stage = 'copied', smin = $3, smax = $4, hi_lsn = $5::text::pg_lsn
			where migration = $1 and relid = $2`, id, t.RelID, least.String(), greatest.String(), t.High)
		if err != nil {
			return 0, err
		}
	}
	return len(tables), nil
}

// Extremes finds the smallest and the greatest of snapshots by inclusion. Snapshots of one primary are totally ordered;
// two that are not came from different histories, and nothing that follows from them can be trusted.
func Extremes(texts []string) (least, greatest migration.Snapshot, err error) {
	for i, text := range texts {
		snapshot, err := migration.ParseSnapshot(text)
		if err != nil {
			return least, greatest, err
		}
		if i == 0 {
			least, greatest = snapshot, snapshot
			continue
		}
		switch {
		case snapshot.Includes(greatest):
			greatest = snapshot
		case !greatest.Includes(snapshot):
			return least, greatest, errUnordered(greatest, snapshot)
		}
		switch {
		case least.Includes(snapshot):
			least = snapshot
		case !snapshot.Includes(least):
			return least, greatest, errUnordered(least, snapshot)
		}
	}
	return least, greatest, nil
}

func errUnordered(a, b migration.Snapshot) error {
	return migration.NewFault(migration.FaultWrongServer, "order snapshots", a.String()+" and "+b.String(),
		errors.New("neither includes the other: the chunks were read from different servers"),
		"start anew with: pgdts run --again")
}

// claimTable takes over what a dead attempt claimed: one whose token is no longer the newest of its lane. The roots of
// partition trees wait for all tables, because their keys are made of the leaves'.
const claimTable = `
update dts_sync.tbl t set finisher = $2
where (t.migration, t.relid) = (
    select t.migration, t.relid from dts_sync.tbl t
    where t.migration = $1 and t.stage = 'copied' and (t.retry_at is null or t.retry_at <= clock_timestamp())
      and (t.finisher is null or t.finisher = $2 or not exists (
          select from dts_sync.lane l where l.migration = $1 and t.finisher = $4 || l.lane || '/' || l.token))
      and (t.mode <> 'root' or not exists (
          select from dts_sync.tbl o where o.migration = $1 and o.mode <> 'root' and o.stage in ('planned', 'copied')))
      and (select count(distinct o.finisher) from dts_sync.tbl o where o.migration = $1 and o.stage = 'copied' and o.finisher <> $2) < $3
    order by t.est_bytes desc, t.relid
    limit 1 for update of t skip locked)
returning relid`

// ClaimTable takes a copied table whose key and indexes are not built, unless that many other lanes are building already.
func ClaimTable(ctx context.Context, tx pgx.Tx, lane Lane, others int) (uint32, bool, error) {
	var relid uint32
	err := tx.QueryRow(ctx, claimTable, lane.ID, lane.Session(), others, "pgdts/"+lane.ID.Short()+"/").Scan(&relid)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return relid, err == nil, err
}

// Builders counts the lanes that build indexes now.
func (l Ledger) Builders(ctx context.Context) (int, error) {
	var n int
	err := l.Conn.QueryRow(ctx, "select count(distinct finisher) from dts_sync.tbl where migration = $1 and stage = 'copied'", l.ID).Scan(&n)
	return n, err
}

const finishTables = `
update dts_sync.tbl set stage = case when mode = 'root' or not $4 then 'exact' else 'band' end,
       finisher = null, failed_at = null, retry_at = null, error = null
where migration = $1 and relid = any ($2) and finisher = $3 and stage = 'copied'`

// FinishTables moves tables whose keys and indexes are built on to StageBand; to StageExact a root, which has no rows, and
// where no changes follow every table. A table of one snapshot has an empty band, but it is in it until the stream has
// passed the snapshot: only then may the applier stop asking whether the copy saw a transaction. It fails by ErrEpoch when
// one of them is to be copied again, or has been since: then somebody else may be finishing it, or has done so.
func FinishTables(ctx context.Context, tx pgx.Tx, lane Lane, relids []uint32, streamed bool) error {
	if _, err := tx.Exec(ctx, "set local synchronous_commit = on"); err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, finishTables, lane.ID, relids, lane.Session(), streamed)
	if err != nil || tag.RowsAffected() == int64(len(relids)) {
		return err
	}
	var planned bool
	err = tx.QueryRow(ctx, "select exists (select from dts_sync.tbl where migration = $1 and relid = any ($2) and stage = 'planned')",
		lane.ID, relids).Scan(&planned)
	switch {
	case err != nil:
		return err
	case planned || !streamed: // who was fenced was refused by Guard
		return ErrEpoch
	}
	return migration.Faultf(migration.FaultReplaced, "finish table", "", "another lane has taken it over")
}

const failTable = `
update dts_sync.tbl set finisher = null, failed_at = coalesce(failed_at, clock_timestamp()), error = $4,
       retry_at = clock_timestamp() + greatest('1 s', least('30 s', clock_timestamp() - coalesce(failed_at, clock_timestamp())))
where migration = $1 and relid = $2 and finisher = $3
returning extract(epoch from clock_timestamp() - failed_at)::float8`

// FailTable is FailChunk for the key and the indexes of a table; it gives the claim back.
func FailTable(ctx context.Context, tx pgx.Tx, lane Lane, relid uint32, message string) (time.Duration, error) {
	return outage(tx.QueryRow(ctx, failTable, lane.ID, relid, lane.Session(), message))
}

// CopyProgress is how far all lanes together are.
type CopyProgress struct {
	Tables                migration.TableCounts
	Chunks, ChunksDone    int64
	Rows, RowsTotal       int64
	BytesDone, BytesTotal int64 // in the plan's estimates, so that the end is 100 percent
	SnapshotsLost         int64 // under which something may have been copied
	Error                 string
	FailedAt              *time.Time
	Counted               time.Time // when, by the target's clock
}

const readCopyProgress = `
select t.total, t.copied, t.exact, t.rows, c.total, c.done, c.rows, c.bytes_done, c.bytes,
       t.lost + (select greatest(snapshot_epoch - 1, 0) from dts_sync.migration where id = $1), statement_timestamp()
from (select count(*) filter (where mode <> 'root') as total,
             count(*) filter (where mode <> 'root' and stage <> 'planned') as copied,
             count(*) filter (where mode <> 'root' and stage = 'exact') as exact,
             coalesce(sum(est_rows), 0)::bigint as rows, coalesce(sum(greatest(snapshot_epoch - 1, 0)), 0)::bigint as lost
      from dts_sync.tbl where migration = $1) t,
     (select count(*) as total, count(*) filter (where state = 'done') as done, coalesce(sum(rows), 0)::bigint as rows,
             coalesce(sum(bytes_est) filter (where state = 'done'), 0)::bigint as bytes_done, coalesce(sum(bytes_est), 0)::bigint as bytes
      from dts_sync.chunk where migration = $1) c`

const readFailing = `
select failed_at, error from (
    select failed_at, error from dts_sync.chunk where migration = $1 and failed_at is not null and state = 'todo'
    union all
    select failed_at, error from dts_sync.tbl where migration = $1 and failed_at is not null) f
order by failed_at limit 1`

// CopyProgress sums up the copy. Roots of partitions hold no rows, so they are not among the tables.
func (l Ledger) CopyProgress(ctx context.Context) (CopyProgress, error) {
	var p CopyProgress
	batch := &pgx.Batch{}
	batch.Queue(readCopyProgress, l.ID).QueryRow(func(row pgx.Row) error {
		return row.Scan(&p.Tables.Total, &p.Tables.Copied, &p.Tables.Exact, &p.RowsTotal, &p.Chunks, &p.ChunksDone,
			&p.Rows, &p.BytesDone, &p.BytesTotal, &p.SnapshotsLost, &p.Counted)
	})
	batch.Queue(readFailing, l.ID).QueryRow(func(row pgx.Row) error {
		if err := row.Scan(&p.FailedAt, &p.Error); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return nil // nothing is failing
	})
	err := l.Conn.SendBatch(ctx, batch).Close()
	p.RowsTotal = max(p.RowsTotal, p.Rows)
	return p, err
}

// Unfinished reports whether a table is before StageBand.
func (l Ledger) Unfinished(ctx context.Context) (bool, error) {
	var left bool
	err := l.Conn.QueryRow(ctx, "select exists (select from dts_sync.tbl where migration = $1 and stage in ('planned', 'copied'))",
		l.ID).Scan(&left)
	return left, err
}
