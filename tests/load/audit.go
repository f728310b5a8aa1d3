package load

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Check compares the target's audit table with what the clients know. It fails when an acknowledged commit is missing,
// and when one that was rolled back is there.
func (o Outcome) Check(ctx context.Context, target *pgx.Conn) error {
	rows, err := target.Query(ctx, "select client, seq from load.audit")
	if err != nil {
		return err
	}
	present := map[[2]int64]bool{}
	var client, seq int64
	_, err = pgx.ForEachRow(rows, []any{&client, &seq}, func() error {
		present[[2]int64{client, seq}] = true
		return nil
	})
	if err != nil {
		return err
	}
	for client, seqs := range o.Acknowledged {
		for _, seq := range seqs {
			if !present[[2]int64{int64(client), seq}] {
				return fmt.Errorf("commit %d of client %d was acknowledged by the source and is not on the target", seq, client)
			}
		}
	}
	for client, seqs := range o.RolledBack {
		for _, seq := range seqs {
			if present[[2]int64{int64(client), seq}] {
				return fmt.Errorf("transaction %d of client %d was rolled back on the source and is on the target", seq, client)
			}
		}
	}
	return nil
}

// Commits counts the acknowledged transactions.
func (o Outcome) Commits() int {
	n := 0
	for _, seqs := range o.Acknowledged {
		n += len(seqs)
	}
	return n
}
