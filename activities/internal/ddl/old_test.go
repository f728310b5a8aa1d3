package ddl

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
)

// The oldest server publishes no roots: a partition that is made later is in no publication, and its rows would be missing.
func TestNewPartitionsOfOldServersAreGrave(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Server(t, pgtest.Major(10)))
	db.Exec(t, `create table p (k int) partition by range (k); create table p1 partition of p for values from (0) to (9);
		create publication look for table p1`)
	conn, planned := asPlanned(t, db)
	watch := Watch{Publications: []string{"look"}, Everything: true}
	found, err := watch.Look(t.Context(), conn, planned)
	require.NoError(t, err)
	require.Empty(t, found)
	db.Exec(t, "create table p2 partition of p for values from (9) to (20)")
	found, err = watch.Look(t.Context(), conn, planned)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.True(t, found[0].Grave)
	require.Contains(t, found[0].Fault().Error(), "public.p2")
}
