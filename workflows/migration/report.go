package migration

import "time"

// Report is the evidence that a migration leaves: what was moved, what was compared, how long writes were blocked.
type Report struct {
	ID       ID        `json:"id"`
	Name     string    `json:"name"`
	State    Phase     `json:"state"` // finished stopped failed
	Source   string    `json:"source"`
	Target   string    `json:"target"`
	Types    []Type    `json:"types,omitempty"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`

	Tables    int   `json:"tables"`
	Rows      int64 `json:"rows"`
	Kept      int64 `json:"kept,omitempty"` // rows not copied, because the target had their key (conflict: ignore)
	Bytes     int64 `json:"bytes"`
	Chunks    int64 `json:"chunks"`
	Recopied  int64 `json:"recopiedChunks"` // attempts at chunks beyond the first
	Changes   int64 `json:"changes"`
	Conflicts int64 `json:"conflicts"`
	Sequences int   `json:"sequences"`

	WriteBlocked Duration  `json:"writeBlocked"` // fence to opening
	Verified     string    `json:"verified"`     // hash counts none
	Verdicts     []Verdict `json:"verdicts,omitempty"`
	Notes        []string  `json:"notes,omitempty"` // what a person should know: skipped objects, owed clean-up
	Failure      *Fault    `json:"failure,omitempty"`

	Objects ObjectCounts `json:"objects"`
}

// Verdict is the outcome of comparing one table.
type Verdict struct {
	Table      string `json:"table"`
	Equal      bool   `json:"equal"`
	SourceRows int64  `json:"sourceRows"`
	TargetRows int64  `json:"targetRows"`
	Method     string `json:"method"` // hash counts recopied subset none
	// Of a table in which the target may have rows of its own (subset), where TargetRows are those of the source that it has.
	Missing   int64 `json:"missing,omitempty"`
	Different int64 `json:"different,omitempty"`
	Kept      int64 `json:"kept,omitempty"` // the target had them before, and they stay (conflict: ignore)
	// Reason says why nothing was compared (none).
	Reason string `json:"reason,omitempty"`
}

// ObjectCounts counts schema objects by outcome.
type ObjectCounts struct {
	Done    int `json:"done"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}
