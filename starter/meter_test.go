package starter

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
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

// A report is shown more than once, and may be kept by who made it.
func TestSlotThatFillsIsNotedOnceAndWhileItLasts(t *testing.T) {
	beat := migration.Beat{Step: step.Watch.Name, Notes: make([]string, 1, 8)}
	beat.Notes[0] = "the first"
	beat.SetWAL(migration.WAL{Retained: 78 << 27, Limit: 100 << 27, Growth: 1 << 20, Alert: 75})
	for range 2 {
		status := copying(0, 0)
		join(&status, []migration.Beat{beat})
		noteWAL(&status)
		require.Equal(t, int64(100<<27), status.WALLimitBytes)
		require.InDelta(t, 1<<20, status.WALGrowthBytesPerSecond, 0.1)
		require.InDelta(t, 22*128, status.WALSecondsToLimit, 0.1)
		require.Equal(t, 75, status.WALAlertPercent)
		require.Len(t, status.Notes, 2)
		require.Contains(t, status.Notes[1], "the slot holds 78 % of the log that max_slot_wal_keep_size allows, 9984 of 12800 MB, about 46 min left")
		require.Empty(t, beat.Notes[:2][1])
	}
	beat.SetWAL(migration.WAL{Retained: 1, Limit: 100 << 27, Growth: -5})
	status := copying(0, 0)
	join(&status, []migration.Beat{beat})
	noteWAL(&status)
	require.Len(t, status.Notes, 1)
	require.Zero(t, status.WALSecondsToLimit)
	encoded, err := json.Marshal(status)
	require.NoError(t, err)
	require.Contains(t, string(encoded), `"walLimitBytes":13421772800,"walGrowthBytesPerSecond":-5`)
	require.NotContains(t, string(encoded), "walSecondsToLimit")
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

func lane(name string, at time.Time, done, inFlight int64) migration.Beat {
	return migration.Beat{
		Step: step.Copy.Name, Lane: name, At: at, Rows: done / 10, Bytes: done + inFlight, InFlight: inFlight, BytesTotal: 1_000_000, RowsTotal: 100_000,
	}
}

func TestBytesInFlightOfAllLanesCountAndNoneTwice(t *testing.T) {
	now := time.Unix(1000, 0)
	status := copying(0, 0)
	join(&status, []migration.Beat{lane("copy-1", now, 1000, 30), lane("copy-2", now.Add(-time.Second), 1000, 50), lane("copy-3", now, 1000, 7)})
	require.Equal(t, int64(1087), status.Bytes.Copied)
	// The third lane has reported before 40 were done, which may be those that it had in flight.
	status = copying(0, 0)
	join(&status, []migration.Beat{lane("copy-1", now, 1040, 30), lane("copy-3", now.Add(-5*time.Second), 1000, 50)})
	require.Equal(t, int64(1080), status.Bytes.Copied)
	status = copying(0, 0)
	join(&status, []migration.Beat{lane("copy-1", now, 1_000_000, 0), lane("copy-3", now.Add(-5*time.Second), 999_990, 10)})
	require.Equal(t, int64(1_000_000), status.Bytes.Copied)
}

// Each lane uses its count for a while, so that the last to report may not be the last to have counted.
func TestTheNewestCountOfAllLanesCounts(t *testing.T) {
	now := time.Unix(1000, 0)
	old, late := lane("copy-1", now.Add(5*time.Second), 0, 30), lane("copy-2", now, 1000, 50)
	old.Counted, late.Counted = now.Add(-5*time.Second), now
	status := copying(0, 0)
	join(&status, []migration.Beat{old, late})
	require.Equal(t, int64(1050), status.Bytes.Copied)
}

func TestFiguresFallOnlyWhenASnapshotIsLost(t *testing.T) {
	s := New(nil)
	see := func(rows, bytes, lost int64) migration.Status {
		status := copying(rows, bytes)
		status.ID, status.SnapshotsLost = "pgdts/shop/a", lost
		s.neverBack(&status)
		return status
	}
	see(100, 1000, 0)
	require.Equal(t, int64(1000), see(90, 900, 0).Bytes.Copied, "a lane reports late")
	require.Equal(t, int64(1000), see(100, 950, 0).Bytes.Copied, "a chunk in flight was given up")
	require.Equal(t, int64(1100), see(110, 1100, 0).Bytes.Copied)
	begun := see(5, 50, 1)
	require.Equal(t, migration.Amount{Copied: 5, Total: 100_000}, begun.Rows)
	require.Equal(t, int64(50), begun.Bytes.Copied)
	require.Equal(t, int64(60), see(6, 60, 1).Bytes.Copied)
}

func TestLanesOfThisProcessAreSeenApart(t *testing.T) {
	s := New(nil)
	now := time.Unix(1000, 0)
	for _, beat := range []migration.Beat{lane("copy-1", now, 1000, 30), lane("copy-2", now, 1000, 50), lane("copy-3", now.Add(-time.Minute), 900, 70)} {
		beat.Step = "copy" // as a worker in this process calls it
		s.Observe(beat)
	}
	lanes := s.observedLanes()
	require.Len(t, lanes, 2, "the third has ended")
	require.Equal(t, int64(50), lanes["copy-2"].InFlight)
}

func TestTimeToCatchUp(t *testing.T) {
	behind := migration.Status{
		Phase: migration.PhaseIncremental, LatencySeconds: 300, LSN: migration.Positions{Applied: 1_000_000, Source: 7_000_000},
		Rates: migration.Rates{AppliedBytesPerSecond: 30_000, SourceBytesPerSecond: 10_000},
	}
	for _, c := range []struct {
		name    string
		change  func(*migration.Status)
		seconds float64
		never   bool
	}{
		{"gaining", func(*migration.Status) {}, 300, false},
		{"catchup", func(s *migration.Status) { s.Phase = migration.PhaseCatchup }, 300, false},
		{"losing", func(s *migration.Status) { s.Rates.SourceBytesPerSecond = 31_000 }, 0, true},
		{"as fast", func(s *migration.Status) { s.Rates.SourceBytesPerSecond = 30_000 }, 0, true},
		{"stalled", func(s *migration.Status) { s.Rates.AppliedBytesPerSecond = 0 }, 0, true},
		{"caught up", func(s *migration.Status) { s.LatencySeconds = 0.3 }, 0, false},
		{"paused", func(s *migration.Status) { s.Paused = true }, 0, false},
		{"no rates yet", func(s *migration.Status) { s.Rates = migration.Rates{} }, 0, false},
		{"not connected yet", func(s *migration.Status) { s.LSN.Applied = 0 }, 0, false},
		{"copy", func(s *migration.Status) { s.Phase = migration.PhaseConstraints }, 0, false},
	} {
		status := behind
		c.change(&status)
		finish(&status, time.Now())
		require.InDelta(t, c.seconds, status.ETASeconds, 0.01, c.name)
		require.Equal(t, c.never, status.NotCatchingUp, c.name)
	}
}

// TestSkewedCopyIsToldHonestly plays the reports of a real copy: one table with most of the bytes in wide rows, one with most of
// the rows, thirty with next to nothing; three lanes and a rate. bulk's test of the same name records it.
func TestSkewedCopyIsToldHonestly(t *testing.T) {
	content, err := os.ReadFile("testdata/skewed-copy.json")
	require.NoError(t, err)
	var copied struct {
		Began       time.Time
		TookSeconds float64
		Beats       []migration.Beat
	}
	require.NoError(t, json.Unmarshal(content, &copied))
	s, judged, percent := New(nil), 0, 0.0
	var m meter
	lanes := map[string]migration.Beat{}
	for _, beat := range copied.Beats {
		lanes[beat.Lane] = beat
		status := migration.Status{
			ID: "pgdts/shop/a", Phase: migration.PhaseCopy, Phases: []migration.PhaseStatus{{Name: migration.PhaseCopy, State: "running", Started: &copied.Began}},
		}
		join(&status, slices.Collect(maps.Values(lanes)))
		s.neverBack(&status)
		finish(&status, beat.At)
		m.measure(&status, beat.At)
		require.GreaterOrEqual(t, status.Phases[0].Percent, percent)
		percent = status.Phases[0].Percent
		left := copied.TookSeconds - beat.At.Sub(copied.Began).Seconds()
		if percent < 20 || left < 2 { // a report is two seconds
			continue
		}
		t.Logf("%4.1f %%, to go %4.1f s, really %4.1f s", percent, status.ETASeconds, left)
		require.InDelta(t, 1.25, max(left/status.ETASeconds, status.ETASeconds/left), 0.75, "a factor of two")
		judged++
	}
	require.Greater(t, judged, 5)
	require.Greater(t, percent, 80.0)
}
