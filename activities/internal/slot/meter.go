package slot

import (
	"math"
	"time"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// growthWindow is how far back growth looks.
	growthWindow = 3 * time.Minute
	// growthLeast is the least time of observation that says something.
	growthLeast = 20 * time.Second
	// sampleEvery bounds how many looks are kept.
	sampleEvery = time.Second
	// alertBack is how far below a level, in percent of the limit, the log must fall before the level is told of again.
	alertBack = 5
)

// Meter follows how much of its log the source keeps for a slot. It is for one goroutine.
type Meter struct {
	logger  *zap.Logger
	samples []sample
	alert   int
}

type sample struct {
	at       time.Time
	retained int64
}

// NewMeter knows nothing of what was before: a level that was reached already is told of once more.
func NewMeter(logger *zap.Logger) *Meter { return &Meter{logger: logger} }

// Measure adds a look at the slot. When a level is reached, it writes a line into the log, and the next when the slot has
// fallen below and risen to it again.
func (m *Meter) Measure(slot string, status Status, now time.Time) migration.WAL {
	for len(m.samples) > 0 && now.Sub(m.samples[0].at) > growthWindow {
		m.samples = m.samples[1:]
	}
	if n := len(m.samples); n > 1 && now.Sub(m.samples[n-2].at) < sampleEvery {
		m.samples = m.samples[:n-1]
	}
	m.samples = append(m.samples, sample{now, status.Retained})
	wal := migration.WAL{Retained: status.Retained, Limit: status.Limit, Growth: m.growth()}
	wal.Alert = m.level(wal.Percent())
	before := m.alert
	m.alert = wal.Alert
	switch {
	case wal.Alert > before:
		m.logger.Warn("the slot comes near the limit of what it may keep", zap.String(migration.KeySlot, slot),
			zap.Int(migration.KeyPercent, wal.Alert), zap.Int64(migration.KeyBytes, wal.Retained), zap.Int64(migration.KeyLimit, wal.Limit),
			zap.String(migration.KeyHint, wal.Text(false)))
	case wal.Alert < before:
		m.logger.Info("the slot keeps less again", zap.String(migration.KeySlot, slot),
			zap.Int(migration.KeyPercent, wal.Alert), zap.Int64(migration.KeyBytes, wal.Retained))
	}
	return wal
}

// level is the highest that is reached, or was and is not left yet.
func (m *Meter) level(percent float64) int {
	reached := 0
	for _, level := range []int{50, 75, 90} {
		back := 0.0
		if level <= m.alert {
			back = alertBack
		}
		if percent >= float64(level)-back && percent > 0 {
			reached = level
		}
	}
	return reached
}

// growth compares the least of the second half of the window with the least of the first. A slot that is read moves in jumps
// of minutes: between its extremes there would be growth where there is none.
func (m *Meter) growth() float64 {
	first, last := m.samples[0].at, m.samples[len(m.samples)-1].at
	elapsed := last.Sub(first)
	if elapsed < growthLeast {
		return 0
	}
	half := first.Add(elapsed / 2)
	early, late := sample{retained: math.MaxInt64}, sample{retained: math.MaxInt64}
	for _, s := range m.samples {
		least := &early
		if !s.at.Before(half) {
			least = &late
		}
		if s.retained < least.retained {
			*least = s
		}
	}
	between := max(late.at.Sub(early.at), elapsed/4)
	return float64(late.retained-early.retained) / between.Seconds()
}
