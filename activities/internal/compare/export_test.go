package compare

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
)

// Hash counts and adds up one side of a table that is compared as it is.
func (d Dialect) Hash(ctx context.Context, conn *pgx.Conn, table mapping.Table) (int64, string, error) {
	source, _ := sides(table, shape{})
	a, err := d.sum(ctx, conn, source)
	return a.rows, a.sum, err
}
