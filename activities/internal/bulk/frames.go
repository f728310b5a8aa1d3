package bulk

import (
	"encoding/binary"
	"net"
	"sync/atomic"
	"time"
)

// The server sends each row of a COPY as a message of its own, and the driver reads 8 KB at a time, handles one message
// after the other, and holds a whole row in memory, of which one may have a gigabyte. frames stands between socket and
// driver. It reads much at once, makes one message of many rows, and several of a row that is larger than its buffer, which
// changes nothing for a reader of the stream: the ends of messages mean nothing in a COPY.
type frames struct {
	net.Conn
	buffer      []byte
	read, write int   // what is in the buffer
	ready       int   // bytes from read on that may be handed over
	rest        int64 // bytes of the message under way that are yet to come from the socket
	data        bool  // that message is one of a COPY
	small       bool  // the last read was
	rows        atomic.Int64
}

const (
	framesBuffer = 256 << 10
	// frameHeader is the type of a message and its length, which counts itself.
	frameHeader = 5
	copyData    = 'd'
	// smallRead is a read that did not pay for its system call while more was on its way: then bytes gather first.
	smallRead = 64 << 10
	gather    = time.Millisecond
)

func newFrames(conn net.Conn) net.Conn {
	return &frames{Conn: conn, buffer: make([]byte, framesBuffer)}
}

// Read hands over what was read, and reads more only when nothing of it is left.
func (f *frames) Read(p []byte) (int, error) {
	for f.ready == 0 {
		if f.rest > 0 && f.data && f.write > f.read {
			f.goOn()
		} else if f.rest == 0 || !f.data {
			f.pass()
		}
		if f.ready > 0 {
			break
		}
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.buffer[f.read:f.read+f.ready])
	f.read += n
	f.ready -= n
	return n, nil
}

// fill reads once, behind what is left of an earlier read: the beginning of a header. Room is kept in front, because a part
// of a large row gets a header that it did not come with.
func (f *frames) fill() error {
	left := copy(f.buffer[frameHeader:], f.buffer[f.read:f.write])
	if f.data && f.small {
		time.Sleep(gather)
	}
	n, err := f.Conn.Read(f.buffer[frameHeader+left:])
	f.small = n < smallRead
	f.read, f.write = frameHeader, frameHeader+left+n
	return err
}

// pass hands over other messages as they are, up to the first of a COPY.
func (f *frames) pass() {
	for at := f.read; ; {
		if f.rest > 0 { // of a message that is no row
			n := min(f.rest, int64(f.write-at))
			at += int(n)
			f.rest -= n
			f.ready = at - f.read
		}
		if f.write-at < frameHeader {
			return
		}
		kind, length := f.header(at)
		if kind == copyData {
			if at == f.read {
				f.merge()
			}
			return
		}
		f.rest, f.data = length+frameHeader, false
	}
}

// header is the type of the message that begins there, and the length of what follows its header.
func (f *frames) header(at int) (byte, int64) {
	return f.buffer[at], int64(binary.BigEndian.Uint32(f.buffer[at+1:])) - 4
}

// merge makes one message of the rows at the front of the buffer. The last may be there in part: then the message ends
// with what is there, and goOn makes another of the rest.
func (f *frames) merge() {
	to := f.read + frameHeader
	at := f.read
	for f.write-at >= frameHeader {
		kind, length := f.header(at)
		if kind != copyData {
			break
		}
		at += frameHeader
		f.rows.Add(1)
		n := min(length, int64(f.write-at))
		copy(f.buffer[to:], f.buffer[at:at+int(n)])
		to += int(n)
		at += int(n)
		if f.rest, f.data = length-n, true; f.rest > 0 {
			break
		}
	}
	f.close(f.read, to, at)
}

// goOn makes a message of what has come of a row that was begun. Rows behind it wait for the next turn.
func (f *frames) goOn() {
	n := int(min(f.rest, int64(f.write-f.read)))
	f.rest -= int64(n)
	f.close(f.read-frameHeader, f.read+n, f.read+n)
}

// close writes the header of a message whose content ends at to. What follows it in the buffer, from next on, is moved
// down to it, so that it can be handed over in its turn.
func (f *frames) close(from, to, next int) {
	f.buffer[from] = copyData
	binary.BigEndian.PutUint32(f.buffer[from+1:], uint32(to-from-1))
	left := copy(f.buffer[to:], f.buffer[next:f.write])
	f.read, f.ready, f.write = from, to-from, to+left
}

// taken is how many rows were read since the last call, the end of a binary stream among them.
func (f *frames) taken() int64 { return f.rows.Swap(0) }
