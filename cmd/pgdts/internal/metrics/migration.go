package metrics

import (
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

// shownFor is how long figures of a migration are shown after this worker has last heard of it: another worker may have it
// since, and an old latency would raise alarms for ever.
const shownFor = time.Minute

// outdated reports whether another lane of the copy has told of a later count.
func (r *Registry) outdated(beat migration.Beat) bool {
	if beat.Counted.IsZero() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if beat.Counted.Before(r.counted[beat.Migration]) {
		return true
	}
	r.counted[beat.Migration] = beat.Counted
	return false
}

// Observe takes what a step of this worker reports. Of a copy by several workers each shows how far all of them are.
func (r *Registry) Observe(beat migration.Beat) {
	if r.outdated(beat) {
		return
	}
	set := func(name, kind string, value float64) {
		r.update(name, kind, labels(map[string]string{"migration": string(beat.Migration)}), func(s *series) {
			s.value, s.until = value, r.now().Add(shownFor)
		})
	}
	if beat.BytesTotal > 0 || beat.RowsTotal > 0 {
		// Without what is in flight, which each lane knows of itself alone: a counter that falls is read as a restart.
		set("pgdts_copied_bytes_total", "counter", float64(beat.Bytes-beat.InFlight))
		set("pgdts_copied_rows_total", "counter", float64(beat.Rows))
		set("pgdts_copy_bytes", "gauge", float64(beat.BytesTotal))
		set("pgdts_copy_rows", "gauge", float64(beat.RowsTotal))
	}
	if t := beat.Tables; t != nil {
		set("pgdts_tables", "gauge", float64(t.Total))
		set("pgdts_tables_copied", "gauge", float64(t.Copied))
		set("pgdts_tables_exact", "gauge", float64(t.Exact))
	}
	if l := beat.LSN; l != nil {
		set("pgdts_applied_changes_total", "counter", float64(beat.Changes))
		set("pgdts_latency_seconds", "gauge", beat.Latency.D().Seconds())
		set("pgdts_applied_lag_bytes", "gauge", behind(l.Source, l.Applied))
		set("pgdts_confirmed_lag_bytes", "gauge", behind(l.Source, l.Confirmed))
	}
	if beat.LSN != nil || beat.WALRetained > 0 {
		wal := beat.WAL()
		set("pgdts_slot_retained_bytes", "gauge", float64(wal.Retained))
		set("pgdts_slot_growth_bytes_per_second", "gauge", wal.Growth)
		set("pgdts_slot_alert_percent", "gauge", float64(wal.Alert))
		if wal.Limit > 0 {
			set("pgdts_slot_limit_bytes", "gauge", float64(wal.Limit))
		}
		if seconds := wal.SecondsToLimit(); seconds > 0 {
			set("pgdts_slot_seconds_to_limit", "gauge", seconds)
		}
	}
	if rates := beat.Rates; rates != nil {
		set("pgdts_bytes_per_second", "gauge", rates.BytesPerSecond)
		set("pgdts_rows_per_second", "gauge", rates.RowsPerSecond)
		set("pgdts_changes_per_second", "gauge", rates.ChangesPerSecond)
		if beat.LSN != nil {
			set("pgdts_applied_bytes_per_second", "gauge", rates.AppliedBytesPerSecond)
			set("pgdts_source_bytes_per_second", "gauge", rates.SourceBytesPerSecond)
		}
	}
}

func behind(source, position migration.LSN) float64 {
	if position == 0 || source < position {
		return 0
	}
	return float64(source - position)
}
