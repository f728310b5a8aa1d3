//go:build !linux

package stream

import (
	"net"
	"syscall"
	"time"
)

// limitUnacknowledged leaves the system's retransmission limit.
func limitUnacknowledged(*net.TCPConn, time.Duration) {}

// gatherable is no socket: what follows is for Linux.
func gatherable(*net.TCPConn) syscall.RawConn { return nil }

func lowWater(syscall.RawConn, bool) error { return syscall.EINVAL }

func readNow(syscall.RawConn, []byte) (int, error) { return 0, syscall.EINVAL }
