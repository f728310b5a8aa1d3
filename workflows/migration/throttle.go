package migration

// Throttle caps what a migration asks of the servers, over all its workers together. It may be changed while it runs.
type Throttle struct {
	Full        FullThrottle        `json:"full,omitzero"`
	Incremental IncrementalThrottle `json:"incremental,omitzero"`
}

// FullThrottle caps the copy; 0 = no cap.
type FullThrottle struct {
	QueriesPerSecond   float64 `json:"queriesPerSecond,omitempty"` // statements that read rows from the source
	RowsPerSecond      float64 `json:"rowsPerSecond,omitempty"`
	MegabytesPerSecond float64 `json:"megabytesPerSecond,omitempty"` // of 1,000,000 bytes
}

// IncrementalThrottle caps the application of changes; 0 = no cap.
type IncrementalThrottle struct {
	RowsPerSecond      float64 `json:"rowsPerSecond,omitempty"`
	MegabytesPerSecond float64 `json:"megabytesPerSecond,omitempty"` // of 1,000,000 bytes
}

// Class is a preset of parallelism, memory and incremental rate; none = as fast as it goes.
type Class string

// From the smallest to the largest.
const (
	ClassSmall   Class = "small"
	ClassMedium  Class = "medium"
	ClassLarge   Class = "large"
	ClassXLarge  Class = "xlarge"
	Class2XLarge Class = "2xlarge"
)
