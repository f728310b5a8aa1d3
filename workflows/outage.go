package workflows

import (
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// outage is the memory of one lane's trouble. Both windows are counted from the start of the outage, apart from each
// other, so that alternating kinds neither share nor restart a clock; only progress of the lane ends it. A server that
// merely answers does not: a reachable server with a broken stream would be retried for ever.
type outage struct {
	ConnectionSince time.Time        `json:"connectionSince,omitzero"`
	OtherSince      time.Time        `json:"otherSince,omitzero"`
	Failures        int              `json:"failures,omitempty"` // in a row, without a minute of health between
	LastChance      bool             `json:"lastChance,omitempty"`
	Waiting         bool             `json:"waiting,omitempty"` // for the server, or for the next try; else the step works again
	Last            *migration.Fault `json:"last,omitempty"`
}

const healthyAfter = time.Minute

// observe books a failure and returns what is left of the window it falls in.
func (o *outage) observe(now time.Time, fault *migration.Fault, progress step.Progress, windows migration.RetryWindows) time.Duration {
	if progress.Made {
		failures := o.Failures
		*o = outage{}
		if progress.Ran.D() < healthyAfter {
			o.Failures = failures // flapping with progress must not spin
		}
	}
	o.Failures++
	o.Last = fault
	since, window := o.clock(fault.Kind, windows)
	if since.IsZero() {
		*since = now
	}
	return window - now.Sub(*since)
}

func (o *outage) clock(kind migration.FaultKind, windows migration.RetryWindows) (*time.Time, time.Duration) {
	if migration.Policy[kind] == migration.RetryConnection {
		return &o.ConnectionSince, windows.Connection.D()
	}
	return &o.OtherSince, windows.Other.D()
}

// left is what remains of the window of the last failure.
func (o *outage) left(now time.Time, windows migration.RetryWindows) time.Duration {
	since, window := o.clock(o.Last.Kind, windows)
	return window - now.Sub(*since)
}

const (
	backoffMin = time.Second
	backoffMax = 30 * time.Second
)

// backoff is the pause before the next try: doubling, bounded.
func (o *outage) backoff() time.Duration {
	pause := backoffMin
	for range o.Failures - 1 {
		if pause *= 2; pause >= backoffMax {
			return backoffMax
		}
	}
	return pause
}
