package cutover_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
)

func TestCutoverMovesEverything(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.From.Exec(t, "update customer set name = 'late' where id = 7; insert into log (what) values ('late'); select nextval('ticket')")
	evidence := b.mustRun(t)
	require.True(t, b.opened(t))
	require.Equal(t, "hash", evidence.Verified)
	require.Equal(t, 2, evidence.Sequences)
	require.Positive(t, evidence.WriteBlocked.D())
	require.Empty(t, evidence.Notes)
	pgtest.MustEqual(t, b.From, b.To)
	require.EqualValues(t, 4, pgtest.Value[int64](t, b.To, "select nextval('ticket')"))
	b.To.Exec(t, "insert into purchase (customer) values (1)")
	require.EqualValues(t, 101, pgtest.Value[int64](t, b.To, "select max(id) from purchase"))
}
