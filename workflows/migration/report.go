package migration

import "time"

// Report is the evidence that a migration leaves: what was moved, what was compared, how long writes were blocked.
type Report struct {
	ID       ID        `json:"id"`
	Name     string    `json:"name"`
	State    Phase     `json:"state"` // finished stopped failed
	Source   string    `json:"source"`
	Target   string    `json:"target"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`

	Tables    int   `json:"tables"`
	Rows      int64 `json:"rows"`
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
	Method     string `json:"method"` // hash counts recopied
}

// ObjectCounts counts schema objects by outcome.
type ObjectCounts struct {
	Done    int `json:"done"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}
