package metrics

import "time"

// Forward moves the registry's clock.
func (r *Registry) Forward(d time.Duration) {
	r.now = func() time.Time { return time.Now().Add(d) }
}
