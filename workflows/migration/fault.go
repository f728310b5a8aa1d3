package migration

import (
	"errors"
	"fmt"
	"strings"
)

// FaultKind says what an error means for the migration. The set is closed; Policy has a row for each.
type FaultKind string

// The windows are those of RetryWindows.
const (
	// FaultConnection: a server was not reached, or dropped us. Counts in the connection window.
	FaultConnection FaultKind = "connection"
	// FaultUnauthorized: refused at the door (28*, 3D000). A person can repair it, so it counts in the connection window.
	FaultUnauthorized FaultKind = "unauthorized"
	// FaultOther: a statement failed. Counts in the other window.
	FaultOther FaultKind = "other"
	// FaultPrivilege: a right is missing (42501). Counts in the other window.
	FaultPrivilege FaultKind = "privilege"
	// FaultSlotLost: the slot is gone, invalidated, or was consumed by somebody else. Never re-created silently.
	FaultSlotLost FaultKind = "slot-lost"
	// FaultWrongServer: another system id or timeline answered.
	FaultWrongServer FaultKind = "wrong-server"
	// FaultDrift: a table is not what was planned.
	FaultDrift FaultKind = "drift"
	// FaultConflict: a row was not as the exact regime demands, and the definition says stop.
	FaultConflict FaultKind = "conflict"
	// FaultObject: schema objects failed; a person mends the target or lets them be skipped.
	FaultObject FaultKind = "object"
	// FaultFenced: another host, or the opening took our place. This process must not write again.
	FaultFenced FaultKind = "fenced"
	// FaultReplaced: another attempt took our place. Temporal hears the one that it counts on only, and that is not the later one
	// when a frozen worker wakes with a step that was given up; then the step is tried again and takes the place back.
	FaultReplaced FaultKind = "replaced"
	// FaultNotReady: a cutover was given up before the opening; the migration goes on.
	FaultNotReady FaultKind = "not-ready"
	// FaultPrecheck: the precheck blocks.
	FaultPrecheck FaultKind = "precheck"
	// FaultInvalid: the definition can never work.
	FaultInvalid FaultKind = "invalid"
	// FaultWindow: a retry window ended.
	FaultWindow FaultKind = "window"
	// FaultStopped: a person stopped the migration before it was complete.
	FaultStopped FaultKind = "stopped"
	// FaultShutdown: the worker is leaving; somebody else goes on at once.
	FaultShutdown FaultKind = "shutdown"
	// FaultBug: an invariant of ours is broken.
	FaultBug FaultKind = "bug"
)

// Directive is what to do about a fault.
type Directive string

// Steps that return a fault are run again, or not, by these alone.
const (
	RetryConnection Directive = "retry-connection" // wait for the server, inside the connection window
	RetryOther      Directive = "retry-other"      // again, inside the other window
	RetryAtOnce     Directive = "retry-at-once"    // the server schedules the next attempt
	Ask             Directive = "ask"              // wait for a person
	Return          Directive = "return"           // the caller goes back a phase
	Never           Directive = "never"            // the migration fails
)

// Policy is the one table from kind to directive.
var Policy = map[FaultKind]Directive{
	FaultConnection:   RetryConnection,
	FaultUnauthorized: RetryConnection,
	FaultOther:        RetryOther,
	FaultPrivilege:    RetryOther,
	FaultSlotLost:     Ask,
	FaultWrongServer:  Ask,
	FaultDrift:        Ask,
	FaultConflict:     Ask,
	FaultObject:       Ask,
	FaultFenced:       Never,
	FaultReplaced:     RetryOther,
	FaultNotReady:     Return,
	FaultPrecheck:     Never,
	FaultInvalid:      Never,
	FaultWindow:       Never,
	FaultStopped:      Never,
	FaultShutdown:     RetryAtOnce,
	FaultBug:          Ask,
}

// Fault is the one error that crosses from the engine to the workflow. It names objects, never row values, never
// connection strings.
type Fault struct {
	Kind     FaultKind `json:"kind"`
	Side     Side      `json:"side,omitempty"`     // which server, when one is meant
	Op       string    `json:"op,omitempty"`       // "copy chunk", "create slot"
	Object   string    `json:"object,omitempty"`   // table, slot, constraint
	SQLState string    `json:"sqlstate,omitempty"` // when a server said so
	Message  string    `json:"message"`
	Hint     string    `json:"hint,omitempty"` // what a person should do
	// Objects tells of the schema's objects where some of them failed.
	Objects *ObjectStatus `json:"objects,omitempty"`

	err error
}

// NewFault makes a fault of a kind; cause may be nil.
func NewFault(kind FaultKind, op, object string, cause error, hint string) *Fault {
	fault := &Fault{Kind: kind, Op: op, Object: object, Hint: hint, err: cause}
	if cause != nil {
		fault.Message = cause.Error()
	}
	return fault
}

// Error is one sentence: operation, object, cause, remedy.
func (f *Fault) Error() string {
	var parts []string
	if head := strings.TrimSpace(f.Op + " " + f.Object); head != "" {
		parts = append(parts, head)
	}
	if f.Message != "" {
		parts = append(parts, f.Message)
	}
	text := strings.Join(parts, ": ")
	if f.Hint != "" {
		text += " (" + f.Hint + ")"
	}
	return text
}

// Unwrap is the cause, inside the process where the fault was born.
func (f *Fault) Unwrap() error { return f.err }

// AsFault finds the fault in a chain of errors.
func AsFault(err error) (*Fault, bool) {
	var fault *Fault
	ok := errors.As(err, &fault)
	return fault, ok
}

// Side is one of the two servers.
type Side string

// A migration reads the source and never changes its rows; it writes the target.
const (
	Source Side = "source"
	Target Side = "target"
)

// Faultf is NewFault with a formatted message and no hint.
func Faultf(kind FaultKind, op, object, format string, args ...any) *Fault {
	return NewFault(kind, op, object, fmt.Errorf(format, args...), "")
}
