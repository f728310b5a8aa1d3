package pg_test

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// A host that is gone while bytes are on their way to it sends no reset, and no keepalive probe is sent either.
func TestSessionsDoNotWaitAQuarterOfAnHourForAHostThatIsGone(t *testing.T) {
	t.Parallel()
	const tcpUserTimeout = 0x12 // of tcp(7), in milliseconds
	db := pgtest.Database(t, pgtest.Shared(t))
	server, err := pg.NewServer(migration.Target, migration.Endpoint{URI: db.URI}, nil)
	require.NoError(t, err)
	conn, err := server.Connect(t.Context(), "test")
	require.NoError(t, err)
	t.Cleanup(func() { pg.Close(conn) })
	limit := func() (value int) {
		raw, err := conn.PgConn().Conn().(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) { value, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout) }))
		require.NoError(t, err)
		return value
	}
	require.Equal(t, 30_000, limit())
	pg.MayStall(conn)
	require.Zero(t, limit())
}
