package activities

import (
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// rateWindow is how far back rates look: short enough to show a stall, long enough to be steady.
	rateWindow = 30 * time.Second
	// rateLeast is the least time between two reports that says something.
	rateLeast = 2 * time.Second
	// sampleEvery bounds how many reports of a busy step are kept.
	sampleEvery = time.Second
)

// window keeps the reports of the last half minute, of which rates are made.
type window []migration.Beat

// rates adds a report; nil until there is enough to tell. What a restart of the copy takes away is no rate.
func (w *window) rates(beat migration.Beat) *migration.Rates {
	for len(*w) > 1 && beat.At.Sub((*w)[1].At) >= rateWindow {
		*w = (*w)[1:]
	}
	if n := len(*w); n == 0 || beat.At.Sub((*w)[n-1].At) >= sampleEvery {
		*w = append(*w, migration.Beat{At: beat.At, Rows: beat.Rows, Bytes: beat.Bytes, Changes: beat.Changes, LSN: beat.LSN})
	}
	oldest := (*w)[0]
	elapsed := beat.At.Sub(oldest.At)
	if elapsed < rateLeast {
		return nil
	}
	perSecond := func(now, then int64) float64 { return max(0, float64(now-then)/elapsed.Seconds()) }
	rates := &migration.Rates{
		RowsPerSecond:    perSecond(beat.Rows, oldest.Rows),
		BytesPerSecond:   perSecond(beat.Bytes, oldest.Bytes),
		ChangesPerSecond: perSecond(beat.Changes, oldest.Changes),
	}
	rates.AppliedBytesPerSecond, rates.SourceBytesPerSecond = w.logRates(beat)
	return rates
}

// logRates are how fast the source's log is applied and written, as far as both places were known; the stream learns them only
// after it has connected.
func (w *window) logRates(beat migration.Beat) (applied, source float64) {
	for _, then := range *w {
		if !placed(then) || !placed(beat) {
			continue
		}
		elapsed := beat.At.Sub(then.At)
		if elapsed < rateLeast {
			return 0, 0
		}
		perSecond := func(now, then migration.LSN) float64 {
			return float64(now-min(then, now)) / elapsed.Seconds()
		}
		return perSecond(beat.LSN.Applied, then.LSN.Applied), perSecond(beat.LSN.Source, then.LSN.Source)
	}
	return 0, 0
}

func placed(beat migration.Beat) bool {
	return beat.LSN != nil && beat.LSN.Applied != 0 && beat.LSN.Source != 0
}
