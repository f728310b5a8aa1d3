package stream

import (
	"io"
	"net"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of tcp(7), which package syscall does not name.
const tcpUserTimeout = 0x12

// limitUnacknowledged bounds how long written bytes may stay unacknowledged. A kernel that refuses leaves the
// retransmission limit, a quarter of an hour.
func limitUnacknowledged(conn *net.TCPConn, limit time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(limit.Milliseconds()))
	})
}

func gatherable(conn *net.TCPConn) syscall.RawConn {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// manyBytes wake a reader that wants to be left alone: it would pause too long at this rate. The kernel enlarges the
// socket's buffer to hold them.
const manyBytes = 1 << 20

// lowWater sets SO_RCVLOWAT of socket(7): the runtime polls every socket all the time, also those that nobody reads.
func lowWater(raw syscall.RawConn, single bool) (err error) {
	bytes := 1
	if !single {
		bytes = manyBytes
	}
	controlErr := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, bytes)
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

// readNow reads what is there. Nothing is no error.
func readNow(raw syscall.RawConn, buffer []byte) (n int, err error) {
	readErr := raw.Read(func(fd uintptr) bool {
		for {
			n, err = syscall.Read(int(fd), buffer)
			if err != syscall.EINTR {
				return true
			}
		}
	})
	switch {
	case readErr != nil:
		return 0, readErr
	case err == syscall.EAGAIN:
		return 0, nil
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
