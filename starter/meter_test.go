package starter

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

func copying(rows, bytes int64) migration.Status {
	return migration.Status{
		Phase: migration.PhaseCopy, Rows: migration.Amount{Copied: rows, Total: 100_000}, Bytes: migration.Amount{Copied: bytes, Total: 1_000_000},
	}
}

func TestRatesShowAStallWithinTheWindow(t *testing.T) {
	var m meter
	now := time.Unix(0, 0)
	status := copying(0, 0)
	m.measure(&status, now)
	require.Zero(t, status.Rates)

	for second := range int64(20) {
		status = copying(1000*second, 10_000*second)
		m.measure(&status, now.Add(time.Duration(second)*time.Second))
	}
	require.InDelta(t, 1000, status.Rates.RowsPerSecond, 1)
	require.InDelta(t, 10_000, status.Rates.BytesPerSecond, 1)
	require.InDelta(t, 81, status.ETASeconds, 1)

	for second := range int64(40) {
		status = copying(19_000, 190_000)
		m.measure(&status, now.Add(time.Duration(20+second)*time.Second))
	}
	require.Zero(t, status.Rates.RowsPerSecond)
	require.Zero(t, status.ETASeconds, "unknown, not for ever")
}

func TestRatesDoNotCountOneStepsFiguresAsAnothersLoss(t *testing.T) {
	var m meter
	now := time.Unix(0, 0)
	for second := range int64(5) {
		status := copying(1000*second, 0)
		m.measure(&status, now.Add(time.Duration(second)*time.Second))
	}
	status := migration.Status{Phase: migration.PhaseIncremental, Changes: 5}
	m.measure(&status, now.Add(6*time.Second))
	status = migration.Status{Phase: migration.PhaseIncremental, Changes: 205}
	m.measure(&status, now.Add(8*time.Second))
	require.InDelta(t, 100, status.Rates.ChangesPerSecond, 0.1)
}

func TestLanesThatTellOfThemselvesAreAddedUp(t *testing.T) {
	beats := []migration.Beat{
		{Step: step.Copy.Name, Rows: 10, Bytes: 100},
		{Step: step.Copy.Name, Rows: 5, Bytes: 50},
		{Step: step.Watch.Name, WALRetained: 4096},
	}
	status := copying(0, 0)
	join(&status, beats)
	require.Equal(t, int64(15), status.Rows.Copied)
	require.Equal(t, int64(100_000), status.Rows.Total)
	require.Equal(t, int64(4096), status.WALRetainedBytes)
}

// TestCaughtUpNeedsAStream: before the first report, a latency of zero is ignorance.
func TestCaughtUpNeedsAStream(t *testing.T) {
	status := migration.Status{Phase: migration.PhaseIncremental}
	join(&status, []migration.Beat{{Step: step.Stream.Name}})
	require.False(t, status.CaughtUp)
	join(&status, []migration.Beat{{Step: step.Stream.Name, LSN: &migration.Positions{Applied: 5}}})
	require.True(t, status.CaughtUp)
	join(&status, []migration.Beat{{Step: step.Stream.Name, LSN: &migration.Positions{Applied: 5}, Latency: migration.Duration(2 * time.Second)}})
	require.False(t, status.CaughtUp)
	require.InDelta(t, 2, status.LatencySeconds, 0.01)
}
