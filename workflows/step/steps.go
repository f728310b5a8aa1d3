package step

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Precheck looks at both servers and changes nothing. A second call looks again.
var Precheck = Activity[PrecheckIn, migration.CheckResult]{
	Name: "Precheck", Summary: "check both servers", Options: long(),
}

// PrecheckIn says which ignorable alerts do not block.
type PrecheckIn struct {
	In
	Ignore []string `json:"ignore,omitempty"`
}

// Prepare creates ledger, publications and slot, each recorded before it is made; without incremental the ledger alone. A
// second call finds them.
var Prepare = Activity[In, PrepareOut]{
	Name: "Prepare", Summary: "create ledger, publications and slot", Options: long(),
}

// PrepareOut is where the stream will begin.
type PrepareOut struct {
	Slot   string        `json:"slot"` // "" without incremental
	Start  migration.LSN `json:"start"`
	Tables int           `json:"tables"`
}

// Schema creates what stands before the data: types, functions, tables without keys, views; where nothing is copied, keys
// and indexes too. A second call goes on with the objects that are not done.
var Schema = Activity[SchemaIn, SchemaOut]{
	Name: "Schema", Summary: "create objects before the data", Options: long(),
}

// Constraints creates unique indexes, foreign keys, triggers and policies. A second call goes on with the rest.
var Constraints = Activity[SchemaIn, SchemaOut]{
	Name: "Constraints", Summary: "create unique indexes, foreign keys and triggers", Options: long(),
}

// SchemaIn says which objects are left out.
type SchemaIn struct {
	In
	SkipFailed bool     `json:"skipFailed,omitempty"` // those that fail (onObjectFailure: skip)
	Skip       []string `json:"skip,omitempty"`       // those that a person has named: titles or numbers
}

// SchemaOut counts objects.
type SchemaOut struct {
	migration.ObjectCounts
	Deferred int                    `json:"deferred,omitempty"` // left for the opening: rules on tables; all of it without the replica role
	Objects  migration.ObjectStatus `json:"objects,omitzero"`   // of all sections
}

// Plan cuts the tables into chunks and writes them into the ledger; where nothing is copied, the tables alone. A second
// call finds them.
var Plan = Activity[In, PlanOut]{
	Name: "Plan", Summary: "cut tables into chunks", Options: long(),
}

// PlanOut is how much there is to copy.
type PlanOut struct {
	Tables int   `json:"tables"`
	Chunks int   `json:"chunks"`
	Rows   int64 `json:"rows"`  // estimate
	Bytes  int64 `json:"bytes"` // heap and TOAST on the source
	Lanes  int   `json:"lanes"` // how many Copy steps to run at once
}

// Hold exports the snapshot that all tables are copied under when no changes follow, and keeps it until it is cancelled.
// Another attempt cannot have the same snapshot: what was copied under the earlier one is copied again.
var Hold = Activity[In, struct{}]{
	Name: "Hold", Summary: "hold the snapshot of the copy", Options: long(),
}

// Copy claims chunks and tables until none is left. Several lanes run at once, on any workers. A second attempt at a
// lane ends what is left of the first and claims on.
var Copy = Activity[CopyIn, CopyOut]{
	Name: "Copy", Summary: "copy chunks", Options: long(),
}

// CopyIn names the lane; only one attempt at a lane works at a time.
type CopyIn struct {
	In
	Lane int `json:"lane"`
	// Patience is how long the lane waits without work before it makes room for others; 0 = for ever.
	Patience migration.Duration `json:"patience,omitempty"`
}

// CopyOut is what this lane's last attempt did.
type CopyOut struct {
	Left   bool  `json:"left,omitempty"` // it made room: others have not finished
	Chunks int64 `json:"chunks"`
	Rows   int64 `json:"rows"`
	Bytes  int64 `json:"bytes"`

	All migration.Amounts `json:"all,omitzero"` // what all lanes have copied when this one found nothing left
}

// Throttle records the rates that hold from now on where every worker looks for them. A second call records others.
var Throttle = Activity[ThrottleIn, struct{}]{
	Name: "Throttle", Summary: "change the rates",
	Options: workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Second,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:        time.Second,
			BackoffCoefficient:     1.5,
			MaximumInterval:        ProbeIntervalMax,
			NonRetryableErrorTypes: []string{"PanicError", string(migration.FaultInvalid), string(migration.FaultFenced)},
		},
	},
}

// ThrottleIn is all of the rates, those that do not change too.
type ThrottleIn struct {
	In
	Throttle migration.Throttle `json:"throttle"`
}

// Stream applies changes until its goal. It reports position, rows and latency in heartbeats; cancelled, it finishes
// its batch and returns where it stands.
var Stream = Activity[StreamIn, StreamOut]{
	Name: "Stream", Summary: "apply changes", Options: long(),
}

// StreamGoal says when Stream is done.
type StreamGoal string

// Whatever the goal, a cancelled Stream ends in order.
const (
	UntilCancelled StreamGoal = ""
	UntilExact     StreamGoal = "exact"  // every table's band is closed
	UntilSteady    StreamGoal = "steady" // the gates of an automatic cutover hold
	UntilMarker    StreamGoal = "marker" // all that was committed before this step began is applied
	Held           StreamGoal = "held"   // paused: the connection is kept, nothing is consumed
)

// StreamIn says when to stop.
type StreamIn struct {
	In
	Goal StreamGoal `json:"goal,omitempty"`
}

// StreamOut is where the stream stands, and whether its goal was reached.
type StreamOut struct {
	Applied migration.LSN `json:"applied"`
	Reached bool          `json:"reached"`
	Changes int64         `json:"changes"`
}

// Watch looks after the slot while nothing is consumed: retained WAL, lease, and whether the slot still lives; without
// incremental after the lease alone. It ends when cancelled.
var Watch = Activity[In, struct{}]{
	Name: "Watch", Summary: "watch the slot", Options: long(),
}

// Cutover applies changes, waits for the gates, fences the source, drains to a marker, compares, sets sequences and
// opens the target. One attempt holds the fence; a later attempt begins by finding out whether the target was opened.
// Any fault before the opening lifts the fence and comes back as not-ready.
var Cutover = Activity[EndIn, CutoverOut]{
	Name: "Cutover", Summary: "move writes to the target", Options: long(),
}

// EndIn says which of the objects that wait for the end a person has named to be left out.
type EndIn struct {
	In
	Skip []string `json:"skip,omitempty"`
}

// CutoverOut is the evidence of the cutover.
type CutoverOut struct {
	Opened       time.Time           `json:"opened"`
	WriteBlocked migration.Duration  `json:"writeBlocked"`
	Verified     string              `json:"verified"`
	Verdicts     []migration.Verdict `json:"verdicts,omitempty"` // tables that differ, and those copied again
	Sequences    int                 `json:"sequences"`
	Changes      int64               `json:"changes"`
	Notes        []string            `json:"notes,omitempty"`

	Objects migration.ObjectStatus `json:"objects,omitzero"`
}

// Settle ends a migration without cutover: sequences are set where rows were moved, deferred objects created. A second
// call does the same.
var Settle = Activity[EndIn, SettleOut]{
	Name: "Settle", Summary: "set sequences, create deferred objects", Options: long(),
}

// SettleOut counts what was set.
type SettleOut struct {
	Sequences int                    `json:"sequences"`
	Notes     []string               `json:"notes,omitempty"`
	Objects   migration.ObjectStatus `json:"objects,omitzero"`
}

// Cleanup removes our slot, publications and settings from the source, and marks the ledger. A second call finds
// nothing left to do.
var Cleanup = Activity[CleanupIn, CleanupOut]{
	Name: "Cleanup", Summary: "remove slot and publications", Options: long(),
}

// CleanupIn says how the migration ended and how much goes.
type CleanupIn struct {
	In
	End      migration.Phase `json:"end"`
	KeepSlot bool            `json:"keepSlot,omitempty"`
	Ledger   bool            `json:"ledger,omitempty"` // remove our rows too; the schema goes with the last migration
}

// CleanupOut is what could not be removed, each with the command that removes it.
type CleanupOut struct {
	Owed []string `json:"owed,omitempty"`
}

// Summary reads the report's figures from the ledger.
var Summary = Activity[In, migration.Report]{
	Name: "Summary", Summary: "write the report", Options: long(),
}

// Probe connects to a server once. Its retry policy is the connection window: the workflow sets ScheduleToClose to
// what is left of it.
var Probe = Activity[ProbeIn, struct{}]{
	Name: "Probe", Summary: "wait for the server",
	Options: workflow.ActivityOptions{
		StartToCloseTimeout: 15 * time.Second,
		WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:        time.Second,
			BackoffCoefficient:     1.5,
			MaximumInterval:        ProbeIntervalMax,
			NonRetryableErrorTypes: []string{"PanicError", string(migration.FaultInvalid)},
		},
	},
}

// ProbeIntervalMax bounds how late a repaired server is noticed. It is the part of the window that ScheduleToClose
// cuts off, so it stays small against the shortest window.
const ProbeIntervalMax = 10 * time.Second

// ProbeIn names both endpoints; both must answer.
type ProbeIn struct {
	Spec migration.Spec `json:"spec"`
}
