//go:build !linux

package pg

import "time"

// limitUnacknowledged leaves the system's retransmission limit.
func limitUnacknowledged(uintptr, time.Duration) {}
