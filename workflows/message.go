package workflows

import "github.com/pgdts/pgdts/workflows/migration"

// Names on the wire. They are what `temporal workflow signal --name` takes; never renamed, only added to.
const (
	MigrationName    = "Migration"
	DefaultTaskQueue = "pgdts"
	copySuffix       = "/copy"

	SignalStop     = "stop"
	SignalCutover  = "cutover"
	SignalPause    = "pause"
	SignalResume   = "resume"
	SignalRecheck  = "recheck"
	SignalRetry    = "retry"
	SignalThrottle = "throttle"

	QueryStatus = "status"

	UpdateCutover  = "cutover"
	UpdateResume   = "resume"
	UpdateRetry    = "retry"
	UpdateThrottle = "throttle"
)

// CopyQueue is where the copy's lanes wait for room, beside a worker's queue: a worker takes as many as it has, and those
// that are left wait for the next worker.
func CopyQueue(taskQueue string) string { return taskQueue + copySuffix }

// Stop is the optional argument of the stop signal.
type Stop struct {
	Release bool `json:"release,omitempty"` // also remove every trace of the migration, the ledger too
}

// Recheck is the optional argument of the recheck signal.
type Recheck struct {
	Ignore []string `json:"ignore,omitempty"` // codes of ignorable alerts that must not block
}

// Resume is the optional argument of the resume message.
type Resume struct {
	Ignore []string `json:"ignore,omitempty"` // schema objects to leave out, by title ("VIEW public.v") or number
}

// Retry is the argument of the retry message; a zero field stays as it is.
type Retry struct {
	Connection migration.Duration `json:"connection,omitempty"`
	Other      migration.Duration `json:"other,omitempty"`
}
