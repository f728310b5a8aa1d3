package migration

// Keys of log fields, one spelling each.
const (
	KeyMigration = "migration_id"
	KeyPhase     = "phase"
	KeyTable     = "table"
	KeyChunk     = "chunk"
	KeyStep      = "step"
	KeyPart      = "part" // of a step: a precheck item, a place in the cutover
	KeyAttempt   = "attempt"
	KeySide      = "side"
	KeySlot      = "slot"
	KeyLSN       = "lsn"
	KeyLatency   = "latency"
	KeyRows      = "rows"
	KeyBytes     = "bytes"
	KeyPercent   = "percent"
	KeyLimit     = "limit"
	KeyElapsed   = "elapsed"
	KeyFault     = "fault"
	KeySQLState  = "sqlstate"
	KeyHint      = "hint"
	KeyError     = "error"
)
