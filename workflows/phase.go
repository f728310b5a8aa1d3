package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// Names of lanes. A lane's outages are its own.
const (
	laneMain   = "main"
	laneStream = "stream"
	laneHold   = "hold"
	laneWatch  = "watch"
)

// precheck blocks until nothing stands in the way, or fails at once when the definition says so.
func (m *run) precheck() (migration.Phase, error) {
	for {
		m.RecheckAsked = false
		check, err := perform(m.lane(m.ctx, laneMain), step.Precheck, step.PrecheckIn{In: m.in, Ignore: m.Ignore})
		if err != nil {
			return "", err
		}
		m.Check = &check
		blocking := check.Blocking()
		if len(blocking) == 0 {
			return migration.PhasePrepare, nil
		}
		fault := precheckFault(blocking)
		if m.spec.Precheck.OnFailure == "fail" {
			return "", fault
		}
		if err := m.awaitRecheck(fault); err != nil {
			return "", err
		}
	}
}

func precheckFault(blocking []migration.Item) *migration.Fault {
	fault := migration.Faultf(migration.FaultPrecheck, "precheck", "", "%s: %s", blocking[0].Code, blocking[0].Found)
	if len(blocking) > 1 {
		fault.Message += fmt.Sprintf(" (and %d more)", len(blocking)-1)
	}
	fault.Hint = blocking[0].Fix
	return fault
}

func (m *run) awaitRecheck(fault *migration.Fault) error {
	m.Attention = &migration.Attention{
		Fault: *fault, Since: workflow.Now(m.ctx), Command: "pgdts recheck " + string(m.spec.ID),
	}
	m.ResumeAsked = false
	m.describe()
	err := workflow.Await(m.ctx, func() bool { return m.RecheckAsked || m.ResumeAsked || m.StopAsked })
	m.Attention, m.ResumeAsked = nil, false
	if err == nil && m.StopAsked {
		return errStopAsked
	}
	return err
}

func (m *run) prepare() (migration.Phase, error) {
	l := m.lane(m.ctx, laneMain)
	if m.spec.Schema.OnObjectFailure == "fail" {
		l.fatal = migration.FaultObject // of an earlier attempt, when this one begins anew
	}
	_, err := perform(l, step.Prepare, m.in)
	return migration.PhaseSchema, err
}

func (m *run) schema() (migration.Phase, error) {
	_, err := performObjects(m, step.Schema)
	return migration.PhaseCopy, err
}

// performObjects creates schema objects; what failed waits for a person, is left out, or ends the migration.
func performObjects(m *run, activity step.Activity[step.SchemaIn, step.SchemaOut]) (step.SchemaOut, error) {
	l := m.lane(m.ctx, laneMain)
	if m.spec.Schema.OnObjectFailure == "fail" {
		l.fatal = migration.FaultObject
	}
	return perform(l, activity, step.SchemaIn{In: m.in, SkipFailed: m.spec.Schema.OnObjectFailure == "skip"})
}

// copy runs the lanes side by side. Each claims chunks from the ledger until none is left, so a slow lane is no
// straggler and the history does not grow with the data.
func (m *run) copy() (migration.Phase, error) {
	plan, err := perform(m.lane(m.ctx, laneMain), step.Plan, m.in)
	if err != nil {
		return "", err
	}
	m.Plan = plan
	ctx, cancel := workflow.WithCancel(m.ctx)
	defer cancel()
	errs := make([]error, plan.Lanes)
	running := plan.Lanes
	var first error
	for i := range plan.Lanes {
		workflow.GoNamed(ctx, fmt.Sprintf("copy-%d", i+1), func(ctx workflow.Context) {
			_, errs[i] = perform(m.lane(ctx, fmt.Sprintf("copy-%d", i+1)), step.Copy, step.CopyIn{In: m.in, Lane: i + 1})
			running--
			if errs[i] != nil && first == nil {
				first = errs[i]
				cancel() // the others stop after their chunk: the phase has failed
			}
		})
	}
	if err := workflow.Await(m.ctx, func() bool { return running == 0 }); err != nil {
		return "", err
	}
	return migration.PhaseCatchup, first
}

// catchup applies what happened during the copy, until every table is exact.
func (m *run) catchup() (migration.Phase, error) {
	err := m.stream(step.UntilExact, nil)
	return migration.PhaseConstraints, err
}

func (m *run) constraints() (migration.Phase, error) {
	_, err := performObjects(m, step.Constraints)
	return migration.PhaseIncremental, err
}

// stream applies changes to a goal. While the migration is paused, the connection is kept and nothing is consumed.
func (m *run) stream(goal step.StreamGoal, yields func() bool) error {
	for {
		l := m.lane(m.ctx, laneStream)
		l.yields = yields
		_, err := perform(l, step.Stream, step.StreamIn{In: m.in, Goal: goal})
		if !errors.Is(err, errPause) {
			return err
		}
		_, err = perform(m.lane(m.ctx, laneHold), step.Stream, step.StreamIn{In: m.in, Goal: step.Held})
		if err != nil && !errors.Is(err, errPause) {
			return err
		}
	}
}

// autoRetryAfter is the pause after an automatic cutover that was given up.
const autoRetryAfter = 30 * time.Second

// incremental applies changes until a person, or the steadiness that mode auto waits for, asks for the cutover.
func (m *run) incremental() (migration.Phase, error) {
	if m.CutoverAsked {
		return migration.PhaseCutover, nil
	}
	automatic := m.spec.Cutover.Mode == "auto"
	if automatic && m.Attempts > 0 {
		wait, cancel := workflow.WithCancel(m.ctx)
		timer := workflow.NewTimerWithOptions(wait, autoRetryAfter, workflow.TimerOptions{Summary: "before the next automatic cutover"})
		err := m.stream(step.UntilCancelled, func() bool { return m.CutoverAsked || timer.IsReady() })
		cancel()
		if err != nil && !errors.Is(err, errYielded) {
			return "", err
		}
	}
	goal := step.UntilCancelled
	if automatic {
		goal = step.UntilSteady
	}
	err := m.stream(goal, func() bool { return m.CutoverAsked })
	if err != nil && !errors.Is(err, errYielded) {
		return "", err
	}
	return migration.PhaseCutover, nil
}

// cutover moves the writes, or gives up before the opening and goes back to incremental with nothing harmed.
func (m *run) cutover() (migration.Phase, error) {
	m.CutoverAsked = false
	m.note("gates", "")
	evidence, err := perform(m.lane(m.ctx, laneMain), step.Cutover, m.in)
	if fault, ok := migration.AsFault(err); ok && migration.Policy[fault.Kind] == migration.Return {
		m.Attempts++
		m.note("aborted", fault.Error())
		return migration.PhaseIncremental, nil
	}
	if errors.Is(err, errPause) {
		m.note("aborted", "paused")
		return migration.PhaseIncremental, nil
	}
	if err != nil {
		return "", err
	}
	m.Evidence = evidence
	m.note("done", "")
	m.endWatch()
	m.summarize(migration.PhaseFinished, m.cleanup(migration.PhaseFinished, false))
	return migration.PhaseFinished, nil
}

// stopping ends the migration because a person said so: in incremental it drains to now and settles; before, it
// abandons what is there.
func (m *run) stopping() (migration.Phase, error) {
	var notes []string
	if m.Incremental && !m.Drained {
		l := m.lane(m.ctx, laneStream)
		l.cleaning = true
		if _, err := perform(l, step.Stream, step.StreamIn{In: m.in, Goal: step.UntilMarker}); err != nil {
			return "", err
		}
		settled, err := perform(l, step.Settle, m.in)
		if err != nil {
			return "", err
		}
		m.Drained = true
		m.Evidence.Sequences, notes = settled.Sequences, settled.Notes
	}
	m.endWatch()
	if !m.Incremental {
		m.Last = migration.NewFault(migration.FaultStopped, "", "", errors.New("stopped before the copy was complete"),
			"tables of the target are incomplete; `pgdts run --again` starts anew")
	}
	m.summarize(migration.PhaseStopped, append(notes, m.cleanup(migration.PhaseStopped, false)...))
	if m.ReleaseAsked {
		m.Report.Notes = append(m.Report.Notes, m.cleanup(migration.PhaseStopped, true)...)
	}
	return migration.PhaseStopped, nil
}

// fail ends the migration with the error of a phase, after removing what would harm the source if it stayed.
func (m *run) fail(err error) migration.Phase {
	fault, ok := migration.AsFault(err)
	if !ok {
		fault, _ = faultOf(err)
	}
	m.Last = fault
	m.endWatch()
	m.describe()
	var owed []string
	if !m.Phase.Before(migration.PhasePrepare) && m.Phase != migration.PhasePrecheck && fault.Kind != migration.FaultFenced {
		owed = m.cleanup(migration.PhaseFailed, false)
	}
	m.summarize(migration.PhaseFailed, owed)
	return migration.PhaseFailed
}
