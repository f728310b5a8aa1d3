package stream

import (
	"net"
	"syscall"
	"time"
)

const (
	readBuffer = 1 << 20
	// smallRead is a read that did not pay for its system call, while more was on its way.
	smallRead = 64 << 10
	gather    = time.Millisecond
	// unacknowledged is how long the peer may leave our replies unacknowledged. A host that is gone sends no reset, and
	// keepalive probes are not sent while data is under way.
	unacknowledged = 30 * time.Second
)

// gatheringConn lets bytes gather before it reads them. A walsender sends each message by itself, and one wake-up per
// message, even of a thread that finds nothing to do, costs more than decoding it. It pauses only while bytes flow: a
// read that comes soon after one before.
type gatheringConn struct {
	net.Conn
	raw         syscall.RawConn // nil where the system cannot be kept from waking us
	quiet       bool            // the system wakes nobody for few bytes
	buffer      []byte
	read, write int
	small       bool
	last        time.Time
}

func newGatheringConn(conn net.Conn) net.Conn {
	c := &gatheringConn{Conn: conn, buffer: make([]byte, readBuffer)}
	if tcp, ok := conn.(*net.TCPConn); ok {
		limitUnacknowledged(tcp, unacknowledged)
		c.raw = gatherable(tcp)
	}
	return c
}

func (c *gatheringConn) Read(p []byte) (int, error) {
	if c.read == c.write {
		n, err := c.fill()
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

// fill reads what has gathered, or waits for the first byte.
func (c *gatheringConn) fill() (int, error) {
	if time.Since(c.last) < 2*gather {
		if c.small {
			c.wake(false)
			time.Sleep(gather)
		}
		if c.quiet {
			if n, err := readNow(c.raw, c.buffer); n > 0 || err != nil {
				return n, err
			}
		}
	}
	c.wake(true)
	return c.Conn.Read(c.buffer)
}

// wake says whether a single byte is worth waking us.
func (c *gatheringConn) wake(single bool) {
	if c.raw != nil && c.quiet == single && lowWater(c.raw, single) == nil {
		c.quiet = !single
	}
}
