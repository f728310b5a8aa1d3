package migration

import (
	"fmt"
	"time"
)

// WAL is how much of its log the source keeps for the slot.
type WAL struct {
	// Retained and Limit are bytes. Beyond Limit the source gives the slot up; 0 = it has no limit, or none that it tells.
	Retained, Limit int64
	// Growth is bytes per second over the last minutes; 0 also while that is not known.
	Growth float64
	// Alert is the highest of 50, 75 and 90 percent of Limit that Retained has reached; 0 = none.
	Alert int
}

// Percent is how much of the limit is in use; 0 without a limit. It may be more than 100: the source looks at its next
// checkpoint.
func (w WAL) Percent() float64 {
	if w.Limit <= 0 {
		return 0
	}
	return 100 * float64(w.Retained) / float64(w.Limit)
}

// SecondsToLimit is how long the limit lasts at the present growth; 0 = for ever, or not known.
func (w WAL) SecondsToLimit() float64 {
	if w.Limit <= w.Retained || w.Growth <= 0 {
		return 0
	}
	return float64(w.Limit-w.Retained) / w.Growth
}

// Text tells of an alert, and what to do about it; "" when there is none.
func (w WAL) Text(paused bool) string {
	if w.Alert == 0 {
		return ""
	}
	left := ""
	switch seconds := w.SecondsToLimit(); {
	case w.Retained >= w.Limit:
		left = ", and is lost at the source's next checkpoint"
	case seconds > 0:
		left = ", about " + roughly(seconds) + " left at this growth"
	}
	remedy := "raise it on the source (it takes a reload)"
	if paused {
		remedy += ", or `pgdts resume`"
	}
	return fmt.Sprintf("the slot holds %.0f %% of the log that max_slot_wal_keep_size allows, %d of %d MB%s: %s",
		w.Percent(), w.Retained>>20, w.Limit>>20, left, remedy)
}

// roughly renders seconds without digits that a guess does not have.
func roughly(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}
