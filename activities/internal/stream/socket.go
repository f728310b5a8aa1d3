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

	// narrowBuffer makes a window of 32 to 64 KB.
	narrowBuffer = 32 << 10
	// narrowGather is long enough for a walsender at work to send several windows, and less than a batch takes.
	narrowGather = 4 * time.Millisecond
)

// gatheringConn lets bytes gather before it reads them. A walsender sends each message by itself, and one wake-up per
// message, even of a thread that finds nothing to do, costs more than decoding it. It pauses only while bytes flow: a
// read that comes soon after one before.
//
// What such a message costs the walsender is most of all its way through the network. So the window of a server, or tunnel, on
// this machine is kept narrow: once it is full, the kernel puts messages together, for next to nothing, until we read. With
// wide windows a walsender needs 1.6 to 2 times the processor time for the same log. Over a network a narrow window, which lets
// so much pass in each round trip and no more, would hold back the stream instead.
type gatheringConn struct {
	net.Conn
	raw         syscall.RawConn // nil where the system cannot be kept from waking us
	narrow      bool            // the window is
	quiet       bool            // the system wakes nobody for few bytes
	buffer      []byte
	read, write int
	small       bool // the last read
	flood       bool // a read since the last pause was not small
	last        time.Time
}

func newGatheringConn(conn net.Conn) net.Conn {
	c := &gatheringConn{Conn: conn, buffer: make([]byte, readBuffer)}
	if tcp, ok := conn.(*net.TCPConn); ok {
		c.raw = gatherable(tcp)
	}
	c.narrow = c.raw != nil && here(conn) && narrow(c.raw) == nil
	return c
}

// here reports whether the other side is on this machine.
func here(conn net.Conn) bool {
	ours, ok := conn.LocalAddr().(*net.TCPAddr)
	theirs, both := conn.RemoteAddr().(*net.TCPAddr)
	return ok && both && (theirs.IP.IsLoopback() || theirs.IP.Equal(ours.IP))
}

func (c *gatheringConn) Read(p []byte) (int, error) {
	if c.read == c.write {
		n, err := c.fill()
		c.read, c.write = 0, n
		c.small, c.last = c.isSmall(n), time.Now()
		c.flood = c.flood || !c.small
		if n == 0 || err != nil {
			return 0, err
		}
	}
	n := copy(p, c.buffer[c.read:c.write])
	c.read += n
	return n, nil
}

func (c *gatheringConn) isSmall(n int) bool {
	if c.narrow {
		return n < narrowBuffer/2
	}
	return n < smallRead
}

// fill reads what has gathered, or waits for the first byte.
func (c *gatheringConn) fill() (int, error) {
	if time.Since(c.last) < 2*gather {
		if c.small {
			c.wake(false)
			c.pause()
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

func (c *gatheringConn) pause() {
	if c.narrow && c.flood {
		time.Sleep(narrowGather)
	} else {
		time.Sleep(gather)
	}
	c.flood = false
}

// wake says whether a single byte is worth waking us.
func (c *gatheringConn) wake(single bool) {
	if c.raw != nil && c.quiet == single && lowWater(c.raw, single) == nil {
		c.quiet = !single
	}
}
