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
	laneMain     = "main"
	laneStream   = "stream"
	laneHold     = "hold" // of the stream, while the migration is paused
	laneSnapshot = "snapshot"
	laneWatch    = "watch"
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
	rates := m.spec.Throttle
	_, err := perform(l, step.Prepare, m.in)
	if err == nil && m.spec.Throttle != rates {
		m.tellRates()
	}
	return m.next(), err
}

// next is the phase that follows when this one's work is done.
func (m *run) next() migration.Phase { return m.spec.PhaseAfter(m.Phase) }

func (m *run) schema() (migration.Phase, error) {
	return m.next(), m.objects(step.Schema)
}

// objects creates schema objects; what failed waits for a person, is left out, or ends the migration.
func (m *run) objects(activity step.Activity[step.SchemaIn, step.SchemaOut]) error {
	out, err := performAsked(m.objectLane(), activity, func() step.SchemaIn {
		return step.SchemaIn{In: m.in, SkipFailed: m.spec.Schema.OnObjectFailure == "skip", Skip: m.Skip}
	})
	if err == nil {
		m.Objects = out.Objects
	}
	return err
}

func (m *run) objectLane() *lane {
	l := m.lane(m.ctx, laneMain)
	if m.spec.Schema.OnObjectFailure == "fail" {
		l.fatal = migration.FaultObject
	}
	return l
}

// copy runs the lanes side by side. Each claims chunks from the ledger until none is left, so a slow lane is no
// straggler and the history does not grow with the data. Where no changes follow, a snapshot is held beside them. The first
// lane that finds everything copied ends the phase: others come to the same, but for those of a worker that is gone.
func (m *run) copy() (migration.Phase, error) {
	ctx, cancel := workflow.WithCancel(m.ctx)
	defer cancel()
	var first error
	failed := func(err error) {
		if err != nil && first == nil {
			first = err
			cancel() // the others stop after their chunk: the phase has failed
		}
	}
	if !m.spec.Has(migration.TypeIncremental) {
		m.hold(ctx, failed)
	}
	lanes, err := m.plan(ctx)
	failed(err)
	if first != nil {
		return "", first
	}
	running, all := lanes, false
	for i := range lanes {
		workflow.GoNamed(ctx, copyLane(i+1), func(ctx workflow.Context) {
			err := m.copyIn(ctx, i+1)
			running--
			all = all || err == nil
			failed(err)
		})
	}
	leaves := workflow.GetVersion(m.ctx, changeLanesLeft, workflow.DefaultVersion, 1) == 1
	if err := workflow.Await(m.ctx, func() bool { return running == 0 || leaves && all && first == nil }); err != nil {
		return "", err
	}
	if running > 0 {
		if _, err := workflow.AwaitWithTimeout(m.ctx, lastLanes, func() bool { return running == 0 }); err != nil {
			return "", err
		}
		for i := range lanes {
			delete(m.Outages, copyLane(i+1))
		}
	}
	return m.next(), first
}

const (
	// changeLanesLeft: before, a copy waited for all of its lanes, and so for the heartbeat time-out of a lost worker.
	changeLanesLeft = "lanes left"
	// lastLanes is how long lanes may take to see for themselves that nothing is left.
	lastLanes = 3 * time.Second
	// roomAfter is how long a lane without work keeps its room at first, and roomAfterMost at last: so long may a lane whose
	// worker is gone have to wait for room. The history grows by what is between.
	roomAfter     = time.Minute
	roomAfterMost = 10 * time.Minute
	// changeRoomFirst: before, a lane that made room could take it again, since a queue of Temporal's knows no order.
	changeRoomFirst = "room first"
	// roomPause is how long the room is left to those that wait.
	roomPause = 5 * time.Second
)

func copyLane(number int) string { return fmt.Sprintf("copy-%d", number) }

// copyIn runs a lane until it finds everything copied. One that makes room queues up again, after those that wait.
func (m *run) copyIn(ctx workflow.Context, number int) error {
	patience := roomAfter
	for {
		out, err := performAsked(m.lane(ctx, copyLane(number)), m.copying(), func() step.CopyIn {
			return step.CopyIn{In: m.in, Lane: number, Patience: migration.Duration(patience)}
		})
		m.Copied.Rows, m.Copied.Bytes = max(m.Copied.Rows, out.All.Rows), max(m.Copied.Bytes, out.All.Bytes)
		if err != nil || !out.Left {
			return err
		}
		patience = min(2*patience, roomAfterMost)
		if workflow.GetVersion(ctx, changeRoomFirst, workflow.DefaultVersion, 1) == 1 {
			if err := workflow.Sleep(ctx, roomPause); err != nil {
				return err
			}
		}
	}
}

// copying is the step of a lane, which waits for room in a queue of its own.
func (m *run) copying() step.Activity[step.CopyIn, step.CopyOut] {
	lane := step.Copy
	lane.Options.TaskQueue = CopyQueue(workflow.GetInfo(m.ctx).TaskQueueName)
	return lane
}

// plan returns how many lanes there are to copy.
func (m *run) plan(ctx workflow.Context) (int, error) {
	plan, err := perform(m.lane(ctx, laneMain), step.Plan, m.in)
	if err == nil {
		m.Plan = plan
	}
	return plan.Lanes, err
}

// hold keeps the snapshot from before the plan until ctx ends. A snapshot that is lost is made anew, and the copy with it,
// inside the windows of a lane of its own. The end is not waited for: nothing that follows needs the session.
func (m *run) hold(ctx workflow.Context, failed func(error)) {
	workflow.GoNamed(ctx, laneSnapshot, func(ctx workflow.Context) {
		_, err := perform(m.lane(ctx, laneSnapshot), step.Hold, m.in)
		if ctx.Err() == nil {
			failed(err)
		}
	})
}

// catchup applies what happened during the copy, until every table is exact. Where nothing was copied it plans first.
func (m *run) catchup() (migration.Phase, error) {
	if !m.spec.Has(migration.TypeFull) && m.Plan.Tables == 0 {
		if _, err := m.plan(m.ctx); err != nil {
			return "", err
		}
	}
	err := m.stream(step.UntilExact, nil)
	return m.next(), err
}

// constraints makes what waits for the data. Where no changes follow, the migration ends with it.
func (m *run) constraints() (migration.Phase, error) {
	if m.spec.Has(migration.TypeSchema) {
		if err := m.objects(step.Constraints); err != nil {
			return "", err
		}
	}
	if m.spec.Has(migration.TypeIncremental) {
		return m.next(), nil
	}
	settled, err := performAsked(m.objectLane(), step.Settle, m.end)
	if err != nil {
		return "", err
	}
	m.Objects = settled.Objects
	m.Evidence.Sequences, m.Evidence.Notes = settled.Sequences, settled.Notes
	return m.finish()
}

// end is what the last steps need.
func (m *run) end() step.EndIn { return step.EndIn{In: m.in, Skip: m.Skip} }

// finish cleans up and reports, when everything is on the target.
func (m *run) finish() (migration.Phase, error) {
	m.endWatch()
	m.summarize(migration.PhaseFinished, m.cleanup(migration.PhaseFinished, false))
	return migration.PhaseFinished, nil
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
	evidence, err := perform(m.lane(m.ctx, laneMain), step.Cutover, m.end())
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
	m.Evidence, m.Objects = evidence, evidence.Objects
	m.note("done", "")
	return m.finish()
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
		settled, err := perform(l, step.Settle, m.end())
		if err != nil {
			return "", err
		}
		m.Drained, m.Objects = true, settled.Objects
		m.Evidence.Sequences, notes = settled.Sequences, settled.Notes
	}
	m.endWatch()
	if !m.Incremental {
		m.Cause = migration.NewFault(migration.FaultStopped, "", "", errors.New("stopped before the migration was complete"),
			"what is on the target is incomplete; `pgdts run --again` starts anew")
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
	m.Cause = fault
	m.endWatch()
	m.describe()
	var owed []string
	if !m.Phase.Before(migration.PhasePrepare) && m.Phase != migration.PhasePrecheck && fault.Kind != migration.FaultFenced {
		owed = m.cleanup(migration.PhaseFailed, false)
	}
	m.summarize(migration.PhaseFailed, owed)
	return migration.PhaseFailed
}
