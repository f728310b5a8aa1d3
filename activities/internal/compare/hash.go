package compare

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// sum counts the rows that one side is asked about and adds up their hashes. Two sides with the same count and sum hold
// the same rows, in any order. Both must be asked in the same dialect.
func (d Dialect) sum(ctx context.Context, conn *pgx.Conn, r rows) (a answer, err error) {
	if _, err := conn.Exec(ctx, d.settings()); err != nil {
		return a, err
	}
	// The simple protocol keeps a statement that is never asked again out of the driver's cache.
	err = conn.QueryRow(ctx, d.hashQuery(r), pgx.QueryExecModeSimpleProtocol).Scan(&a.rows, &a.sum)
	if err != nil {
		return a, fmt.Errorf("hash %s: %w", r.title, err)
	}
	return a, nil
}

// count counts the rows that one side is asked about.
func count(ctx context.Context, conn *pgx.Conn, r rows) (a answer, err error) {
	err = conn.QueryRow(ctx, "select count(*) "+r.from, pgx.QueryExecModeSimpleProtocol).Scan(&a.rows)
	if err != nil {
		return a, fmt.Errorf("count %s: %w", r.title, err)
	}
	return a, nil
}
