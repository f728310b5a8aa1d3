package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const readWrites = `
select s.relid, s.n_tup_upd + s.n_tup_del + case c.relpersistence when 'u' then s.n_tup_ins else 0 end
from pg_stat_user_tables s join pg_class c on c.oid = s.relid`

// Writes counts, by table, the rows written in ways that PublishedInsert does not publish: updates and deletes, and of an
// unlogged table, which is in no publication, inserts too. A count that differs from an earlier one means that the table
// must be copied again. Sessions hand in their counts with a delay of up to a second or until they are idle.
func Writes(ctx context.Context, conn *pgx.Conn) (map[uint32]int64, error) {
	rows, err := conn.Query(ctx, readWrites)
	if err != nil {
		return nil, err
	}
	writes := map[uint32]int64{}
	var relid uint32
	var count int64
	_, err = pgx.ForEachRow(rows, []any{&relid, &count}, func() error {
		writes[relid] = count
		return nil
	})
	return writes, err
}
