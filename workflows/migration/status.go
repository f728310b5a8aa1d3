package migration

import "time"

// Status is what `status` shows: the state of the workflow joined with what its running steps last reported.
type Status struct {
	ID        ID         `json:"id"`
	Name      string     `json:"name"`
	State     string     `json:"state"` // running paused retrying attention finished stopped failed
	Phase     Phase      `json:"phase"`
	Paused    bool       `json:"paused"`
	Attention *Attention `json:"attention"`
	CaughtUp  bool       `json:"caughtUp"`
	Types     []Type     `json:"types"`

	LatencySeconds float64       `json:"latencySeconds"`
	Phases         []PhaseStatus `json:"phases"`
	Tables         TableCounts   `json:"tables"`
	Rows           Amount        `json:"rows"`
	Bytes          Amount        `json:"bytes"`
	Rates          Rates         `json:"rates"`
	ETASeconds     float64       `json:"etaSeconds"` // until all rows are copied or the stream has caught up; 0 = not known
	// NotCatchingUp: the source writes its log at least as fast as changes are applied, so that there is no such time.
	NotCatchingUp bool `json:"notCatchingUp,omitempty"`
	// SnapshotsLost counts the snapshots under which rows had been copied that are copied again.
	SnapshotsLost    int64        `json:"snapshotsLost,omitempty"`
	Throttle         Throttle     `json:"throttle"`
	LSN              Positions    `json:"lsn"`
	WALRetainedBytes int64        `json:"walRetainedBytes"`
	Changes          int64        `json:"changes"` // applied since the copy
	Objects          ObjectStatus `json:"objects"`

	// What the slot may keep of the source's log (0 = no limit, or none that the source tells), how fast it grew in the last
	// minutes (less than 0: it shrank), how long that lasts (0 = not known, or for ever), and the highest of 50, 75 and 90
	// percent of the limit that is reached.
	WALLimitBytes           int64   `json:"walLimitBytes,omitempty"`
	WALGrowthBytesPerSecond float64 `json:"walGrowthBytesPerSecond,omitempty"`
	WALSecondsToLimit       float64 `json:"walSecondsToLimit,omitempty"`
	WALAlertPercent         int     `json:"walAlertPercent,omitempty"`

	Outage    *Outage      `json:"outage"`
	LastError *Fault       `json:"lastError"`
	Actions   []string     `json:"actions"`
	Precheck  *CheckResult `json:"precheck,omitempty"`
	Cutover   *CutoverNote `json:"cutover,omitempty"`
	Report    *Report      `json:"report,omitempty"`

	// Notes tell how the source's tables differ from what was planned, where that does not stop the stream, and of the log that
	// the slot keeps, where it comes near its limit.
	Notes []string `json:"notes,omitempty"`

	Doing      string `json:"doing,omitempty"`      // what a running step last said of itself
	WorkerAway bool   `json:"workerAway,omitempty"` // no worker answered: only what Temporal knows
}

// Attention is something that only a person can decide.
type Attention struct {
	Fault   Fault     `json:"fault"`
	Since   time.Time `json:"since"`
	Command string    `json:"command"` // what to type
}

// PhaseStatus is one line of the progress display.
type PhaseStatus struct {
	Name     Phase      `json:"name"`
	State    string     `json:"state"` // pending running done, or skipped: not of this migration's types
	Percent  float64    `json:"percent"`
	Started  *time.Time `json:"started"`
	Finished *time.Time `json:"finished"`
}

// TableCounts counts tables by stage.
type TableCounts struct {
	Total  int `json:"total"`
	Copied int `json:"copied"`
	Exact  int `json:"exact"`
}

// ObjectStatus counts the objects of the schema by state, and tells of those that were not made.
type ObjectStatus struct {
	Pending int `json:"pending"`
	Done    int `json:"done"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
	// Failures are the first that failed, then those that were left out, ObjectFailuresMax in all.
	Failures []SchemaObject `json:"failures"`
}

// ObjectFailuresMax bounds what a status carries; `pgdts objects` lists all.
const ObjectFailuresMax = 20

// SchemaObject is one object of the schema and how it went.
type SchemaObject struct {
	No       int    `json:"no"`      // its number in the ledger, in order of creation
	Section  string `json:"section"` // before key index constraint opening after
	Kind     string `json:"kind"`    // as pg_dump says it: TABLE, FK CONSTRAINT, …
	Name     string `json:"name"`    // on the target, with the schema
	State    string `json:"state"`   // pending done failed skipped
	DDL      string `json:"ddl"`
	SQLState string `json:"sqlstate,omitempty"`
	Message  string `json:"message,omitempty"`
	Hint     string `json:"hint,omitempty"`
}

// Title names the object in messages and in orders to leave it out.
func (o SchemaObject) Title() string { return o.Kind + " " + o.Name }

// Amount is a part of a whole; the whole is an estimate until it is done.
type Amount struct {
	Copied int64 `json:"copied"`
	Total  int64 `json:"total"`
}

// Amounts is a number of rows and their bytes.
type Amounts struct {
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes"`
}

// Rates are means over the last reports.
type Rates struct {
	RowsPerSecond    float64 `json:"rowsPerSecond"`
	BytesPerSecond   float64 `json:"bytesPerSecond"`
	ChangesPerSecond float64 `json:"changesPerSecond"`

	// Bytes of the source's log that are applied, and that the source writes, per second.
	AppliedBytesPerSecond float64 `json:"appliedBytesPerSecond,omitempty"`
	SourceBytesPerSecond  float64 `json:"sourceBytesPerSecond,omitempty"`
}

// Positions are places in the source's log.
type Positions struct {
	Applied   LSN `json:"applied"`   // durable on the target
	Confirmed LSN `json:"confirmed"` // told the source
	Source    LSN `json:"source"`    // newest the source has told us
}

// Outage is a retry window that runs.
type Outage struct {
	Kind              FaultKind `json:"kind"`
	Since             time.Time `json:"since"`
	WindowLeftSeconds float64   `json:"windowLeftSeconds"`
	Error             string    `json:"error"`
}

// CutoverNote tells how the last cutover attempt went or goes.
type CutoverNote struct {
	Step    string    `json:"step"` // gates fence marker drain verify sequences open done aborted
	Since   time.Time `json:"since"`
	Message string    `json:"message,omitempty"`
}

// TableStatus is one line of `tables`.
type TableStatus struct {
	Table        string    `json:"table"`            // on the source
	Target       string    `json:"target,omitempty"` // its name there, where it is another
	Stage        Stage     `json:"stage"`
	Mode         TableMode `json:"mode"`
	Key          []string  `json:"key"`
	Chunks       Amount    `json:"chunks"`
	Rows         Amount    `json:"rows"`
	Kept         int64     `json:"kept,omitempty"` // rows not copied, because the target had their key (conflict: ignore)
	Bytes        Amount    `json:"bytes"`
	Percent      float64   `json:"percent"` // of the rows, by the size of the chunks that are done
	Conflicts    int64     `json:"conflicts"`
	Verification string    `json:"verification,omitempty"`
	Error        string    `json:"error,omitempty"`
}

// Beat is what a running step reports in its heartbeats; zero fields are not known to that step.
type Beat struct {
	Step       string    `json:"step"`
	At         time.Time `json:"at"`
	Message    string    `json:"message,omitempty"`
	Done       int64     `json:"done,omitempty"` // units of the step: objects, chunks, indexes, tables compared
	Total      int64     `json:"total,omitempty"`
	Rows       int64     `json:"rows,omitempty"`
	RowsTotal  int64     `json:"rowsTotal,omitempty"`
	Bytes      int64     `json:"bytes,omitempty"`
	BytesTotal int64     `json:"bytesTotal,omitempty"`

	Lane          string `json:"lane,omitempty"`          // of the copy
	InFlight      int64  `json:"inFlight,omitempty"`      // what of Bytes is this lane's chunk, which is not done
	SnapshotsLost int64  `json:"snapshotsLost,omitempty"` // of the copy
	// Counted is when Done, Rows and Bytes of the copy were counted, by the target's clock. Each lane counts for itself, and the
	// counts of a large copy are used for a while: one that is reported later may be older.
	Counted time.Time `json:"counted,omitzero"`

	Tables      *TableCounts  `json:"tables,omitempty"`
	Objects     *ObjectStatus `json:"objects,omitempty"` // counts alone
	Changes     int64         `json:"changes,omitempty"`
	LSN         *Positions    `json:"lsn,omitempty"`
	Latency     Duration      `json:"latency,omitempty"`
	WALRetained int64         `json:"walRetained,omitempty"`
	WALLimit    int64         `json:"walLimit,omitempty"`
	WALGrowth   float64       `json:"walGrowth,omitempty"`
	WALAlert    int           `json:"walAlert,omitempty"`
	Notes       []string      `json:"notes,omitempty"` // how the source's tables differ from the plan
	Rates       *Rates        `json:"rates,omitempty"` // over the last half minute
	Migration   ID            `json:"-"`               // known to the worker; heartbeats belong to it anyway
	Fault       *Fault        `json:"fault,omitempty"` // what the step is waiting out by itself
}

// WAL is what a status says of the source's log.
func (s Status) WAL() WAL {
	return WAL{Retained: s.WALRetainedBytes, Limit: s.WALLimitBytes, Growth: s.WALGrowthBytesPerSecond, Alert: s.WALAlertPercent}
}

// Tells is when what a beat says of the whole copy was so.
func (b Beat) Tells() time.Time {
	if b.Counted.IsZero() {
		return b.At
	}
	return b.Counted
}

// WAL is what a beat says of the source's log.
func (b Beat) WAL() WAL {
	return WAL{Retained: b.WALRetained, Limit: b.WALLimit, Growth: b.WALGrowth, Alert: b.WALAlert}
}

// SetWAL writes what WAL reads.
func (b *Beat) SetWAL(w WAL) {
	b.WALRetained, b.WALLimit, b.WALGrowth, b.WALAlert = w.Retained, w.Limit, w.Growth, w.Alert
}
