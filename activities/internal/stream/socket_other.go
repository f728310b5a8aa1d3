//go:build !linux

package stream

import (
	"net"
	"time"
)

// limitUnacknowledged leaves the system's retransmission limit.
func limitUnacknowledged(*net.TCPConn, time.Duration) {}
