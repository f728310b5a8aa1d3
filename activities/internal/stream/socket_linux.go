package stream

import (
	"errors"
	"io"
	"net"
	"syscall"
)

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

// narrow sets SO_RCVBUF of socket(7), which also keeps the kernel from enlarging the window again. TCP_WINDOW_CLAMP does not.
func narrow(raw syscall.RawConn) error { return set(raw, syscall.SO_RCVBUF, narrowBuffer) }

// lowWater sets SO_RCVLOWAT of socket(7): the runtime polls every socket all the time, also those that nobody reads.
func lowWater(raw syscall.RawConn, single bool) error {
	bytes := 1
	if !single {
		bytes = manyBytes
	}
	return set(raw, syscall.SO_RCVLOWAT, bytes)
}

func set(raw syscall.RawConn, option, value int) (err error) {
	controlErr := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, option, value)
	})
	return errors.Join(controlErr, err)
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
