package pg

import (
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// silence is how long the other side's kernel may leave written bytes unacknowledged. A host that is gone sends no reset, and
// keepalive probes are not sent while data is under way.
const silence = 30 * time.Second

// bounded is the dialer's Control. A kernel that refuses leaves its own limit, a quarter of an hour.
func bounded(_, _ string, raw syscall.RawConn) error {
	_ = raw.Control(func(fd uintptr) { limitUnacknowledged(fd, silence) })
	return nil
}

// MayStall lets a backend leave what we send unread for as long as it likes, as one does that waits for a lock: to the kernel
// that is silence, too. The caller has another session beside, by which it notices that the way is cut.
func MayStall(conn *pgx.Conn) {
	socket := conn.PgConn().Conn()
	if secured, ok := socket.(interface{ NetConn() net.Conn }); ok {
		socket = secured.NetConn()
	}
	if tcp, ok := socket.(syscall.Conn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { limitUnacknowledged(fd, 0) })
		}
	}
}
