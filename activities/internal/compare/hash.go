package compare

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"
)

// Hash counts the rows of one table (not of its children or partitions) and adds up their hashes, over the columns in
// the order given. Two tables with the same count and sum hold the same rows, in any order. Both sides must be asked in
// the same dialect.
func (d Dialect) Hash(ctx context.Context, conn *pgx.Conn, table catalog.Table, columns []catalog.Column) (rows int64, sum string, err error) {
	if _, err := conn.Exec(ctx, d.settings()); err != nil {
		return 0, "", err
	}
	// The simple protocol keeps a statement that is never asked again out of the driver's cache.
	err = conn.QueryRow(ctx, d.hashQuery(table, columns), pgx.QueryExecModeSimpleProtocol).Scan(&rows, &sum)
	if err != nil {
		return 0, "", fmt.Errorf("hash %s: %w", table.Name, err)
	}
	return rows, sum, nil
}

// Count counts the rows of one table, not of its children or partitions.
func Count(ctx context.Context, conn *pgx.Conn, table catalog.Table) (int64, error) {
	var rows int64
	query := fmt.Sprintf("select count(*) from only %s r %s", table.Name.SQL(), table.Condition)
	if err := conn.QueryRow(ctx, query, pgx.QueryExecModeSimpleProtocol).Scan(&rows); err != nil {
		return 0, fmt.Errorf("count %s: %w", table.Name, err)
	}
	return rows, nil
}
