//go:build !linux

package stream

import (
	"net"
	"syscall"
)

// gatherable is no socket: what follows is for Linux.
func gatherable(*net.TCPConn) syscall.RawConn { return nil }

func narrow(syscall.RawConn) error { return syscall.EINVAL }

func lowWater(syscall.RawConn, bool) error { return syscall.EINVAL }

func readNow(syscall.RawConn, []byte) (int, error) { return 0, syscall.EINVAL }
