package bulk

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Where rows of the target are kept (conflict: ignore), a chunk is copied into a table of the transaction first. COPY has
// no ON CONFLICT, and a row that was refused would take the whole chunk with it.

const staged = "pg_temp.dts_sync_rows"

// stage makes the table, which has the types of the target's columns and none of its constraints.
func stage(ctx context.Context, tx pgx.Tx, t ledger.Table) (string, error) {
	_, err := tx.Exec(ctx, fmt.Sprintf("create temporary table %s on commit drop as select %s from only %s with no data",
		staged, migration.QuoteList(t.TargetColumns()), t.Target.SQL()))
	return staged, err
}

// insertUnkept compares texts of whole keys: an operator of the key's type may be in a schema that is not searched. A key that
// is in the chunk twice, for the target, is written once and kept once.
const insertUnkept = `
with written as (
    insert into %[1]s (%[2]s) overriding system value select %[2]s from %[4]s
    on conflict (%[3]s) do nothing
    returning row(%[3]s)::text as key
), kept as (
    insert into dts_sync.kept (migration, relid, key)
    select $1, $2, s.key from (select row(%[3]s)::text as key from %[4]s except all select key from written) s
    on conflict do nothing
)
select count(*) from written`

// keep inserts the staged rows whose key the target does not have, records the keys of the others, and returns how many
// it has inserted.
func (w *worker) keep(ctx context.Context, tx pgx.Tx, t ledger.Table) (int64, error) {
	var written int64
	err := tx.QueryRow(ctx, fmt.Sprintf(insertUnkept, t.Target.SQL(), migration.QuoteList(t.TargetColumns()),
		migration.QuoteList(t.TargetKey), staged), pgx.QueryExecModeExec, w.lane.ID, t.OID).Scan(&written)
	return written, err
}
