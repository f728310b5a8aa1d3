package cutover_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
)

// Writers that always hold a table which comes late in our order, and then want one that comes early, must not keep the
// fence from standing for good.
func TestWritersInAnotherOrderDoNotKeepTheFenceAway(t *testing.T) {
	b := newBench(t, pgtest.Shared(t), shop)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer func() {
		stop()
		writers.Wait()
	}()
	for range 4 {
		conn, err := pgx.Connect(t.Context(), b.From.URI)
		require.NoError(t, err)
		writers.Go(func() {
			defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
			for ctx.Err() == nil {
				id := 1 + rand.IntN(100)
				_, err := conn.Exec(ctx, "begin; update purchase set note = note where id = $1", pgx.QueryExecModeSimpleProtocol, id)
				if err == nil {
					_, err = conn.Exec(ctx, "select pg_sleep(0.1); update customer set name = name where id = $1; commit", pgx.QueryExecModeSimpleProtocol, id)
				}
				if err != nil { // a deadlock among the writers, or the fence
					_, _ = conn.Exec(ctx, "rollback")
				}
			}
		})
	}
	evidence := b.mustRun(t)
	require.Less(t, evidence.WriteBlocked.D(), 5*time.Second)
	require.True(t, b.opened(t))
}
