package ledger

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Table is the ledger's row of one table: what was planned and how far it is.
type Table struct {
	mapping.Table
	Mode      migration.TableMode
	Stage     migration.Stage
	Published string // all, or insert
	Smin      migration.Snapshot
	Smax      migration.Snapshot
	Extra     []migration.Snapshot
	High      migration.LSN // hi_lsn
	Conflicts int64
	Truncates int64
	WriteBase int64
	Verdict   string
	WasEmpty  bool // it was on the target before, without rows: what is in it is the copy's
	Held      bool // several chunks, of one snapshot that lanes hold for the table alone
}

const tableColumns = `
select def, mode, stage, published, coalesce(smin, ''), coalesce(smax, ''), extra, coalesce(hi_lsn, '0/0')::text,
       conflicts, truncates, coalesce(writes_base, 0), coalesce(verdict, ''), was_empty, held
from dts_sync.tbl where migration = $1`

const (
	readTables   = tableColumns + ` order by est_bytes desc, relid`
	readTablesOf = tableColumns + ` and relid = any ($2)`
)

// Tables reads all tables, largest first.
func (l Ledger) Tables(ctx context.Context) ([]Table, error) {
	rows, err := l.Conn.Query(ctx, readTables, l.ID)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanTable)
}

// TablesOf reads some tables.
func (l Ledger) TablesOf(ctx context.Context, relids []uint32) ([]Table, error) {
	rows, err := l.Conn.Query(ctx, readTablesOf, l.ID, relids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanTable)
}

// AnyHeld reports whether a table has a snapshot of its own.
func (l Ledger) AnyHeld(ctx context.Context) (bool, error) {
	var held bool
	err := l.Conn.QueryRow(ctx, "select exists (select from dts_sync.tbl where migration = $1 and held)", l.ID).Scan(&held)
	return held, err
}

// TableSizes are the bytes of the tables on the source, as the plan knew them; nothing before there is one.
func (l Ledger) TableSizes(ctx context.Context) (map[uint32]int64, error) {
	rows, err := l.Conn.Query(ctx, "select relid, est_bytes from dts_sync.tbl where migration = $1", l.ID)
	if err != nil {
		return nil, err
	}
	sizes := map[uint32]int64{}
	var relid uint32
	var bytes int64
	_, err = pgx.ForEachRow(rows, []any{&relid, &bytes}, func() error { sizes[relid] = bytes; return nil })
	return sizes, err
}

func scanTable(row pgx.CollectableRow) (Table, error) {
	var t Table
	var def []byte
	var smin, smax, high string
	var extra []string
	err := row.Scan(&def, &t.Mode, &t.Stage, &t.Published, &smin, &smax, &extra, &high,
		&t.Conflicts, &t.Truncates, &t.WriteBase, &t.Verdict, &t.WasEmpty, &t.Held)
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(def, &t.Table); err != nil {
		return t, err
	}
	if t.Smin, err = snapshotOrZero(smin); err != nil {
		return t, err
	}
	if t.Smax, err = snapshotOrZero(smax); err != nil {
		return t, err
	}
	for _, text := range extra {
		snapshot, err := migration.ParseSnapshot(text)
		if err != nil {
			return t, err
		}
		t.Extra = append(t.Extra, snapshot)
	}
	t.High, err = migration.ParseLSN(high)
	return t, err
}

func snapshotOrZero(text string) (migration.Snapshot, error) {
	if text == "" {
		return migration.Snapshot{}, nil
	}
	return migration.ParseSnapshot(text)
}
