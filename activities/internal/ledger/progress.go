package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Progress is how far the changes of the source are applied. It commits together with the rows (I2).
type Progress struct {
	End    migration.LSN // end of the last applied commit, or an idle position behind it
	Commit time.Time     // when the last applied transaction committed, on the source's clock; zero before the first
	Token  int64         // of the lane that writes
}

const readProgress = `
select end_lsn::text, coalesce(commit_ts, 'epoch'), token from dts_sync.progress where migration = $1`

// Progress reads the progress row; ErrUnknown when there is none.
func (l Ledger) Progress(ctx context.Context) (Progress, error) {
	var p Progress
	var end string
	err := l.Conn.QueryRow(ctx, readProgress, l.ID).Scan(&end, &p.Commit, &p.Token)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, ErrUnknown
	}
	if err != nil {
		return p, err
	}
	if p.Commit.Unix() == 0 {
		p.Commit = time.Time{}
	}
	p.End, err = migration.ParseLSN(end)
	return p, err
}

// takeProgress makes the row at the slot's start where there is none yet.
const takeProgress = `
insert into dts_sync.progress as p (migration, end_lsn, token)
select id, start_lsn, $2 from dts_sync.migration where id = $1 and start_lsn is not null
on conflict (migration) do update set token = excluded.token
returning end_lsn::text`

// TakeProgress makes this lane the one that moves the progress row, and returns where it stands. It waits for a
// transaction of the writer before; that writer's next one finds its token gone. tx must be guarded. ErrUnknown when the
// migration has no slot yet.
func (n Lane) TakeProgress(ctx context.Context, tx pgx.Tx) (migration.LSN, error) {
	var end string
	err := tx.QueryRow(ctx, takeProgress, n.ID, n.Token).Scan(&end)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, ErrUnknown
	}
	if err != nil {
		return 0, err
	}
	return migration.ParseLSN(end)
}

// Statement is a statement for a pipeline: its arguments in text form, and how many rows it must return or change; -1
// means any number. One that finds fewer means that the writer has lost its place.
type Statement struct {
	SQL  string
	Args [][]byte
	Rows int64
}

func statement(rows int64, sql string, args ...string) Statement {
	encoded := make([][]byte, len(args))
	for i, arg := range args {
		encoded[i] = []byte(arg)
	}
	return Statement{SQL: sql, Args: encoded, Rows: rows}
}

const guardRow = `
select from dts_sync.lane l join dts_sync.migration m on m.id = l.migration
where l.migration = $1 and l.lane = $2 and l.token = $3 and m.run = $4 and m.opened_at is null
for key share of m, l`

// GuardStatement is Guard in the form of one row or none. Guard tells why there was none.
func (n Lane) GuardStatement() Statement {
	return statement(1, guardRow, string(n.ID), n.Name, strconv.FormatInt(n.Token, 10), n.Run)
}

// holdProgress does not wait: two writers at the row mean that one of them is a ghost.
const holdProgress = `
select from dts_sync.progress where migration = $1 and end_lsn = $2::pg_lsn and token = $3::bigint for update nowait`

// HoldProgress locks the progress row, which must be where this writer left it.
func (n Lane) HoldProgress(at migration.LSN) Statement {
	return statement(1, holdProgress, string(n.ID), at.String(), strconv.FormatInt(n.Token, 10))
}

const moveProgress = `
update dts_sync.progress set end_lsn = $4::pg_lsn, commit_ts = coalesce(nullif($5, '')::timestamptz, commit_ts)
where migration = $1 and end_lsn = $2::pg_lsn and token = $3::bigint`

// MoveProgress moves the row from one position to another. A zero commit time leaves the time as it is.
func (n Lane) MoveProgress(from, to migration.LSN, commit time.Time) Statement {
	at := ""
	if !commit.IsZero() {
		at = commit.UTC().Format(time.RFC3339Nano)
	}
	return statement(1, moveProgress, string(n.ID), from.String(), strconv.FormatInt(n.Token, 10), to.String(), at)
}

const addChanges = `update dts_sync.migration set changes = changes + $2::bigint where id = $1`

// AddChanges counts changes that were applied.
func (n Lane) AddChanges(count int64) Statement {
	return statement(1, addChanges, string(n.ID), strconv.FormatInt(count, 10))
}

const closeBand = `
update dts_sync.tbl set stage = 'exact', extra = '{}' where migration = $1 and relid = $2::oid`

// CloseBand makes a table exact: the stream has passed everything that its copy may have seen.
func (n Lane) CloseBand(relid uint32) Statement {
	return statement(1, closeBand, string(n.ID), strconv.FormatUint(uint64(relid), 10))
}

const extendBand = `
update dts_sync.tbl set extra = extra || $3::text, hi_lsn = greatest(hi_lsn, $4::pg_lsn)
where migration = $1 and relid = $2::oid`

// ExtendBand adds the snapshot of a row that was read from the source again: until the stream has passed high, changes
// that the snapshot saw must converge.
func (n Lane) ExtendBand(relid uint32, snapshot migration.Snapshot, high migration.LSN) Statement {
	return statement(1, extendBand, string(n.ID), strconv.FormatUint(uint64(relid), 10), snapshot.String(), high.String())
}

const reshape = `
update dts_sync.tbl set def = $3::jsonb, key = array(select jsonb_array_elements_text(coalesce(nullif($3::jsonb -> 'key', 'null'), '[]')))
where migration = $1 and relid = $2::oid`

// Reshape replaces what was planned of a table by what it has become: columns came, went, or have other names or types.
func (n Lane) Reshape(relid uint32, def mapping.Table) (Statement, error) {
	text, err := json.Marshal(def)
	return statement(1, reshape, string(n.ID), strconv.FormatUint(uint64(relid), 10), string(text)), err
}

const addTruncate = `
update dts_sync.tbl set truncates = truncates + 1 where migration = $1 and relid = $2::oid`

// AddTruncate counts a TRUNCATE that was applied to a table.
func (n Lane) AddTruncate(relid uint32) Statement {
	return statement(1, addTruncate, string(n.ID), strconv.FormatUint(uint64(relid), 10))
}

const truncateSettled = `
select coalesce(truncated >= $3::pg_lsn, false) from dts_sync.tbl where migration = $1 and relid = $2`

// TruncateSettled reports whether a person has dealt with the source's TRUNCATE of a table, whose commit is at a position.
func (n Lane) TruncateSettled(ctx context.Context, conn *pgx.Conn, relid uint32, at migration.LSN) (bool, error) {
	var settled bool
	err := conn.QueryRow(ctx, truncateSettled, n.ID, relid, at.String()).Scan(&settled)
	return settled, err
}

// addConflict bounds the evidence kept of one table; the count goes on.
const addConflict = `
with counted as (
    update dts_sync.tbl set conflicts = conflicts + 1 where migration = $1 and relid = $2::oid returning conflicts
)
insert into dts_sync.conflict (migration, relid, end_lsn, op, key, what)
select $1, $2::oid, $3::pg_lsn, $4, $5, $6 from counted where conflicts <= 10000`

// AddConflict records a row that was not as it had to be. It returns any number of rows: evidence beyond the first ten
// thousand rows of a table is only counted.
func (n Lane) AddConflict(relid uint32, at migration.LSN, op, key, what string) Statement {
	return statement(-1, addConflict, string(n.ID), strconv.FormatUint(uint64(relid), 10), at.String(), op, key, what)
}
