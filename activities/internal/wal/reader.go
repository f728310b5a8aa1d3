package wal

import (
	"encoding/binary"
	"errors"
	"time"
)

// reader takes fields off a message. After the first that is not there, every other is zero and err is set.
type reader struct {
	rest []byte
	err  error
}

var errShort = errors.New("shorter than it says")

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.rest = nil
}

// bytes are part of the message: who keeps them copies them.
func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.fail(errShort)
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.fail(errShort)
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// text reads a string that ends with a zero byte.
func (r *reader) text() string {
	for i, b := range r.rest {
		if b == 0 {
			text := string(r.rest[:i])
			r.rest = r.rest[i+1:]
			return text
		}
	}
	r.fail(errShort)
	return ""
}

// time reads microseconds since PostgreSQL's epoch.
func (r *reader) time() time.Time {
	const epoch = 946_684_800
	micros := int64(r.uint64())
	return time.Unix(epoch+micros/1e6, micros%1e6*1e3)
}
