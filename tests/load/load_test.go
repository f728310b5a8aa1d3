package load_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/load"
	"github.com/pgdts/pgdts/tests/pgtest"
)

// The writers must do what they claim, or every test that relies on them proves nothing.
func TestWritersCommitAndTheAuditNoticesLoss(t *testing.T) {
	db := pgtest.Database(t, pgtest.Shared(t))
	db.Exec(t, load.Schema)
	writers := load.Start(context.Background(), load.Config{URI: db.URI, Clients: 3, Operations: load.Operations, Seed: 1, Prepared: true})
	deadline := time.Now().Add(30 * time.Second)
	for writers.Commits() < 500 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	outcome := writers.Stop()
	require.Empty(t, outcome.Errors)
	require.GreaterOrEqual(t, outcome.Commits(), 500)
	require.NotEmpty(t, outcome.RolledBack)
	require.NoError(t, outcome.Check(context.Background(), db.Conn(t)))
	db.Exec(t, "delete from load.audit where (client, seq) in (select client, seq from load.audit limit 1)")
	require.Error(t, outcome.Check(context.Background(), db.Conn(t)))
}
