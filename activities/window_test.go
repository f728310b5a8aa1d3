package activities

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/workflows/migration"
)

// at is a beat so many seconds after the start.
func at(second float64, beat migration.Beat) migration.Beat {
	beat.At = time.Unix(0, 0).Add(time.Duration(second * float64(time.Second)))
	return beat
}

func TestRatesAreThoseOfTheLastHalfMinute(t *testing.T) {
	var w window
	require.Nil(t, w.rates(at(0, migration.Beat{})), "one report is no rate")
	require.Nil(t, w.rates(at(1.5, migration.Beat{Rows: 1_000_000})), "nor are two that are close")
	for second := range 60 {
		w.rates(at(2+float64(second), migration.Beat{Rows: int64(second) * 100, Bytes: int64(second) * 1000, Changes: int64(second)}))
	}
	r := w.rates(at(62, migration.Beat{Rows: 6000, Bytes: 60_000, Changes: 60}))
	require.InDelta(t, 100, r.RowsPerSecond, 0.001)
	require.InDelta(t, 1000, r.BytesPerSecond, 0.001)
	require.InDelta(t, 1, r.ChangesPerSecond, 0.001)
	for second := range 40 {
		r = w.rates(at(63+float64(second), migration.Beat{Rows: 6000, Bytes: 60_000, Changes: 60}))
	}
	require.Zero(t, *r, "a stall shows")
}

func TestRateOfACopyThatBeginsAnewIsNotNegative(t *testing.T) {
	var w window
	w.rates(at(0, migration.Beat{Rows: 5000, Bytes: 50_000}))
	r := w.rates(at(10, migration.Beat{Rows: 10, Bytes: 100}))
	require.Zero(t, *r)
	for second := range 60 {
		r = w.rates(at(11+float64(second), migration.Beat{Rows: 10 + int64(second)*100}))
	}
	require.InDelta(t, 100, r.RowsPerSecond, 5)
}

// A stream that reports each of its batches must not fill the memory, nor make the window short.
func TestWindowOfABusyStepIsBounded(t *testing.T) {
	var w window
	var r *migration.Rates
	for i := range 100_000 {
		r = w.rates(at(float64(i)/1000, migration.Beat{Changes: int64(i)}))
	}
	require.LessOrEqual(t, len(w), 32)
	require.InDelta(t, 1000, r.ChangesPerSecond, 1)
}

func TestRatesOfTheLogBeginWhenBothPlacesAreKnown(t *testing.T) {
	var w window
	w.rates(at(0, migration.Beat{}))
	w.rates(at(1, migration.Beat{LSN: &migration.Positions{Applied: 5 << 30}}))
	place := func(second float64) migration.Beat {
		return at(second, migration.Beat{LSN: &migration.Positions{
			Applied: 5<<30 + migration.LSN(second*3000), Source: 6<<30 + migration.LSN(second*1000),
		}})
	}
	require.Zero(t, w.rates(place(10)).AppliedBytesPerSecond, "from nothing to five gigabytes is no rate")
	require.Zero(t, w.rates(place(11)).AppliedBytesPerSecond)
	r := w.rates(place(20))
	require.InDelta(t, 3000, r.AppliedBytesPerSecond, 1)
	require.InDelta(t, 1000, r.SourceBytesPerSecond, 1)
	r = w.rates(at(21, migration.Beat{LSN: &migration.Positions{Applied: 1, Source: 6<<30 + 21_000}}))
	require.Zero(t, r.AppliedBytesPerSecond, "a place that falls is no rate")
	require.Zero(t, w.rates(at(22, migration.Beat{})).SourceBytesPerSecond)
}
