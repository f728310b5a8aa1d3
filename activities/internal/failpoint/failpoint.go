// Package failpoint names the instants at which a test lets the process die, fail or wait. Without the build tag
// "failpoint" every call compiles to nothing.
//
// With it, PGDTS_FAILPOINT holds actions, separated by commas: name=kill@n ends the process by SIGKILL at the n-th hit,
// name=error@n makes the n-th hit fail, name=wait@n waits until a file exists whose path is PGDTS_FAILPOINT_GATE and the name. Each action
// that fires is appended as a line to the file in PGDTS_FAILPOINT_LOG, so that a test can tell that it was reached.
package failpoint

// The instants, each described by where it stands.
const (
	PrepareRecorded   = "prepare-recorded"    // slot recorded in the ledger, not yet created
	PrepareCreated    = "prepare-created"     // slot created, its position not yet recorded
	SchemaObject      = "schema-object"       // before an object's DDL commits
	HoldEmptied       = "hold-emptied"        // what was copied under a lost snapshot is removed, its chunks still say "done"
	CopyRows          = "copy-rows"           // in the middle of a chunk's COPY
	CopyBeforeCommit  = "copy-before-commit"  // rows written, chunk's transaction open
	CopyAfterCommit   = "copy-after-commit"   // chunk committed on the target, not yet reported
	TableIndex        = "table-index"         // before a key or index of a finished table
	ApplyBatch        = "apply-batch"         // batch written, transaction open
	ApplyBeforeCommit = "apply-before-commit" // progress row written, transaction open
	ApplyAfterCommit  = "apply-after-commit"  // batch committed, not yet confirmed to the source
	ConstraintObject  = "constraint-object"   // before a constraint's DDL
	CutoverFenced     = "cutover-fenced"      // locks are held
	CutoverMarked     = "cutover-marked"      // marker emitted
	CutoverDrained    = "cutover-drained"     // stream has passed the marker
	CutoverVerified   = "cutover-verified"    // tables compared
	CutoverSequences  = "cutover-sequences"   // sequences set
	CutoverBlocked    = "cutover-blocked"     // blocking triggers committed on the source, target not yet opened
	CutoverOpened     = "cutover-opened"      // opened_at committed, nothing cleaned up
	CleanupSlot       = "cleanup-slot"        // slot dropped, publications still there
	UndoObject        = "undo-object"         // before the drop of an object commits, when a migration begins anew
	RestartTruncate   = "restart-truncate"    // tables emptied, the ledger still as the earlier attempt left it
)
