package starter

import (
	"context"
	"errors"
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	watchInterval = time.Second
	// rateWindow is how far back rates look: short enough to show a stall, long enough to be steady over heartbeats.
	rateWindow = 30 * time.Second
)

// Watch calls see with the status about once a second, and at once when the migration has ended, until then or until ctx
// ends. Rates are means over the last half minute. A service that does not answer is asked again; see is then told nothing.
func (s *Starter) Watch(ctx context.Context, id migration.ID, see func(migration.Status)) error {
	var rates meter
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	over := s.over(waiting, id)
	for {
		status, err := s.Status(ctx, id)
		var unknown *UnknownError
		if errors.As(err, &unknown) {
			return err
		}
		if err == nil {
			rates.measure(&status, time.Now())
			see(status)
			if status.Phase.Ended() {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			over = nil // the last status is to come
		case <-ticker.C:
		}
	}
}

// over is closed when the service has told how the migration ended, or cannot tell.
func (s *Starter) over(ctx context.Context, id migration.ID) <-chan struct{} {
	told := make(chan struct{})
	go func() { // ends with the migration, or with ctx
		defer close(told)
		_ = s.client.GetWorkflow(ctx, string(id), "").Get(ctx, nil) // that it ended, not how
	}()
	return told
}

// meter computes rates from the statuses of a window.
type meter struct{ samples []sample }

type sample struct {
	at                   time.Time
	phase                migration.Phase
	rows, bytes, changes int64
}

// measure adds a status to the window and replaces its rates by those of the window.
func (m *meter) measure(status *migration.Status, now time.Time) {
	newest := sample{now, status.Phase, status.Rows.Copied, status.Bytes.Copied, status.Changes}
	if len(m.samples) > 0 && m.samples[len(m.samples)-1].phase != newest.phase {
		m.samples = nil // what one phase counts, another does not
	}
	m.samples = append(m.samples, newest)
	for len(m.samples) > 2 && now.Sub(m.samples[0].at) > rateWindow {
		m.samples = m.samples[1:]
	}
	oldest := m.samples[0]
	elapsed := now.Sub(oldest.at)
	if elapsed < 2*watchInterval {
		return
	}
	status.Rates.ChangesPerSecond = perSecond(newest.changes-oldest.changes, elapsed)
	if status.Phase == migration.PhaseCopy {
		status.Rates.RowsPerSecond = perSecond(newest.rows-oldest.rows, elapsed)
		status.Rates.BytesPerSecond = perSecond(newest.bytes-oldest.bytes, elapsed)
		status.ETASeconds = timeToGo(*status)
	}
}
