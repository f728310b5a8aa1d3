// Package workflows is the deterministic half of a migration: which step follows which, what a signal changes, how long
// an outage may last. It touches no clock, network or file of its own; the activities do the work.
//
//	precheck → prepare → schema → copy → catchup → constraints → incremental → cutover → finished
//	     └────────┴─────────┴───────┴───────┴──────────┴─────────────┴──→ stopping → stopped     (or failed)
//
// Each set of types has its own of these phases (migration.Spec.Phases) and skips the others.
package workflows

import (
	"errors"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// Input starts a migration. Carried is set by continue-as-new only.
type Input struct {
	Spec    migration.Spec `json:"spec"`
	Again   bool           `json:"again,omitempty"` // a person has ordered to begin anew: what an earlier execution left goes
	Carried *state         `json:"carried,omitempty"`
}

// Migration moves one database. It ends by itself after a cutover or a stop; its result is the report.
func Migration(ctx workflow.Context, in Input) (migration.Report, error) {
	m, err := setup(ctx, in)
	if err != nil {
		return migration.Report{}, err
	}
	return m.run(in)
}

// state is all that must survive continue-as-new.
type state struct {
	Phase    migration.Phase         `json:"phase"`
	Phases   []migration.PhaseStatus `json:"phases"`
	Started  time.Time               `json:"started"`
	Windows  migration.RetryWindows  `json:"windows"`
	Ignore   []string                `json:"ignore,omitempty"` // alerts of the precheck
	Skip     []string                `json:"skip,omitempty"`   // schema objects that a person has left out
	Objects  migration.ObjectStatus  `json:"objects,omitzero"` // as far as the last step told
	Plan     step.PlanOut            `json:"plan"`
	Copied   migration.Amounts       `json:"copied,omitzero"` // all of it, once the copy is done
	Outages  map[string]*outage      `json:"outages,omitempty"`
	Check    *migration.CheckResult  `json:"check,omitempty"`
	Report   *migration.Report       `json:"report,omitempty"`
	Evidence step.CutoverOut         `json:"evidence,omitzero"`
	Last     *migration.Fault        `json:"last,omitempty"`  // of any step, until one succeeds
	Cause    *migration.Fault        `json:"cause,omitempty"` // why the migration ends unfinished

	Attention *migration.Attention   `json:"attention,omitempty"`
	Note      *migration.CutoverNote `json:"note,omitempty"`
	Attempts  int                    `json:"attempts,omitempty"` // cutovers given up

	// Orders of the user, until they are carried out.
	Paused        bool `json:"paused,omitempty"`
	StopAsked     bool `json:"stopAsked,omitempty"`
	ReleaseAsked  bool `json:"releaseAsked,omitempty"`
	CutoverAsked  bool `json:"cutoverAsked,omitempty"`
	RecheckAsked  bool `json:"recheckAsked,omitempty"`
	ResumeAsked   bool `json:"resumeAsked,omitempty"`
	Incremental   bool `json:"incremental,omitempty"` // the phase was reached: stop drains instead of abandoning
	WindowChanges int  `json:"windowChanges,omitempty"`
	Drained       bool `json:"drained,omitempty"`

	// Throttle is what the rates were changed to; nil = as defined. Unwritten: the ledger has not been told yet.
	Throttle  *migration.Throttle `json:"throttle,omitempty"`
	Unwritten bool                `json:"unwritten,omitempty"`
}

// run is one execution of the workflow. ctx is disconnected from the workflow's own: a cancellation means stop, and
// stopping needs activities.
type run struct {
	state
	ctx     workflow.Context
	spec    migration.Spec
	in      step.In
	watch   workflow.CancelFunc // ends the background watch, nil while none runs
	probing bool
	telling workflow.CancelFunc // ends the step that tells the ledger of changed rates, nil while none runs
}

// setup validates, restores what was carried, and registers every query, update and signal before anything can block.
func setup(ctx workflow.Context, in Input) (*run, error) {
	in.Spec.Defaults() // keys that were not known when a running migration began
	if err := in.Spec.Validate(); err != nil {
		return nil, temporal.NewNonRetryableApplicationError(err.Error(), string(migration.FaultInvalid), nil)
	}
	detached, _ := workflow.NewDisconnectedContext(ctx)
	m := &run{ctx: detached, spec: in.Spec, in: step.In{Spec: in.Spec, Run: workflow.GetInfo(ctx).FirstRunID, Again: in.Again}}
	if in.Carried != nil {
		m.state = *in.Carried
	} else {
		m.state = state{Started: workflow.Now(ctx), Windows: in.Spec.Retry, Ignore: in.Spec.Precheck.Ignore}
		for _, phase := range migration.Phases {
			state := "pending"
			if !slices.Contains(in.Spec.Phases(), phase) {
				state = "skipped"
			}
			m.Phases = append(m.Phases, migration.PhaseStatus{Name: phase, State: state})
		}
		m.enter(migration.PhasePrecheck)
	}
	if m.Throttle != nil {
		m.setThrottle(*m.Throttle)
	}
	if m.Outages == nil {
		m.Outages = map[string]*outage{}
	}
	m.listen(ctx)
	return m, m.register(ctx)
}

// errContinue asks run for a fresh history; the state is complete when it is returned.
var errContinue = errors.New("continue as new")

// run goes from phase to phase until one has no successor.
func (m *run) run(in Input) (migration.Report, error) {
	if m.Unwritten {
		m.tellRates()
	}
	for !m.Phase.Ended() {
		m.watchIfIdle()
		next, err := m.phase()
		switch {
		case errors.Is(err, errContinue):
			m.endWatch()
			m.endTelling()
			carried := m.state
			in.Carried = &carried
			return migration.Report{}, workflow.NewContinueAsNewError(m.ctx, MigrationName, in)
		case errors.Is(err, errStopAsked):
			next = migration.PhaseStopping
		case err != nil:
			next = m.fail(err)
		}
		m.enter(next)
	}
	m.endWatch()
	m.endTelling()
	if err := workflow.Await(m.ctx, func() bool { return workflow.AllHandlersFinished(m.ctx) }); err != nil {
		return migration.Report{}, err
	}
	return m.result()
}

func (m *run) result() (migration.Report, error) {
	if m.Phase != migration.PhaseFailed {
		return *m.Report, nil
	}
	return migration.Report{}, temporal.NewNonRetryableApplicationError(m.Cause.Error(), string(m.Cause.Kind), nil, m.Cause, m.Report)
}

func (m *run) phase() (migration.Phase, error) {
	switch m.Phase {
	case migration.PhasePrecheck:
		return m.precheck()
	case migration.PhasePrepare:
		return m.prepare()
	case migration.PhaseSchema:
		return m.schema()
	case migration.PhaseCopy:
		return m.copy()
	case migration.PhaseCatchup:
		return m.catchup()
	case migration.PhaseConstraints:
		return m.constraints()
	case migration.PhaseIncremental:
		return m.incremental()
	case migration.PhaseCutover:
		return m.cutover()
	case migration.PhaseStopping:
		return m.stopping()
	case migration.PhaseFinished, migration.PhaseStopped, migration.PhaseFailed: // run has returned
	}
	panic("no method for phase " + string(m.Phase))
}

// enter is the only writer of the phase. An impossible edge stops the workflow task, visibly, instead of drifting.
func (m *run) enter(next migration.Phase) {
	if !m.Phase.CanEnter(next) {
		panic("phase " + string(m.Phase) + " cannot be followed by " + string(next))
	}
	now := workflow.Now(m.ctx)
	for i := range m.Phases {
		phase := &m.Phases[i]
		if phase.Name == m.Phase && phase.State == "running" {
			phase.State, phase.Percent, phase.Finished = "done", 100, &now
			if next == migration.PhaseFailed || next == migration.PhaseStopping || next.Before(m.Phase) {
				phase.State, phase.Percent, phase.Finished = "pending", 0, nil
			}
		}
		if phase.Name == next {
			phase.State, phase.Started, phase.Finished = "running", &now, nil
		}
	}
	m.Phase = next
	m.Incremental = m.Incremental || next == migration.PhaseIncremental
	clear(m.Outages)
	workflow.GetLogger(m.ctx).Info("phase entered", migration.KeyMigration, m.spec.ID, migration.KeyPhase, next)
	m.describe()
}

// longest is the outage that has lasted longest among the lanes that wait; nil when every step works.
func (m *run) longest() *outage {
	var longest *outage
	for _, lane := range workflow.DeterministicKeys(m.Outages) {
		o := m.Outages[lane]
		if o.Last == nil || !o.Waiting {
			continue
		}
		since, _ := o.clock(o.Last.Kind, m.Windows)
		if longest == nil {
			longest = o
			continue
		}
		if earliest, _ := longest.clock(longest.Last.Kind, m.Windows); since.Before(*earliest) {
			longest = o
		}
	}
	return longest
}
