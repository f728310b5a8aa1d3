package stream

import (
	"net"
	"time"
)

const (
	readBuffer   = 1 << 20
	kernelBuffer = 4 << 20
	// smallRead is a read that did not pay for its system call, while more was on its way.
	smallRead = 64 << 10
	gather    = time.Millisecond
	// unacknowledged is how long the peer may leave our replies unacknowledged. A host that is gone sends no reset, and
	// keepalive probes are not sent while data is under way.
	unacknowledged = 30 * time.Second
)

// gatheringConn lets bytes gather before it reads them. A walsender sends each message by itself, and one wake-up per
// message costs more than decoding it. It pauses only while bytes flow: a read that comes soon after a small one.
type gatheringConn struct {
	net.Conn
	buffer      []byte
	read, write int
	small       bool
	last        time.Time
}

func newGatheringConn(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(kernelBuffer) // The kernel's own maximum is fine too.
		limitUnacknowledged(tcp, unacknowledged)
	}
	return &gatheringConn{Conn: conn, buffer: make([]byte, readBuffer)}
}

func (c *gatheringConn) Read(p []byte) (int, error) {
	if c.read == c.write {
		if c.small && time.Since(c.last) < 2*gather {
			time.Sleep(gather)
		}
		n, err := c.Conn.Read(c.buffer)
		c.read, c.write = 0, n
		c.small, c.last = n < smallRead, time.Now()
		if n == 0 || err != nil {
			return 0, err
		}
	}
	n := copy(p, c.buffer[c.read:c.write])
	c.read += n
	return n, nil
}
