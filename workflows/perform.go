package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// errStopAsked leaves a phase because a person wants the migration to end.
var errStopAsked = errors.New("stop asked")

// lane is one place where steps run one after the other; its outages are its own.
type lane struct {
	*run
	ctx  workflow.Context
	name string
	// yields reports whether an order makes this step give way; nil = only stop and pause do.
	yields func() bool
	// fatal is a kind that the definition wants to end the migration instead of asking a person.
	fatal migration.FaultKind
	// cleaning steps go on whatever was ordered: they carry the order out.
	cleaning bool
}

func (m *run) lane(ctx workflow.Context, name string) *lane {
	return &lane{run: m, ctx: ctx, name: name}
}

// perform runs a step until it is done: through pauses, outages, and questions to a person. It returns errStopAsked, or
// the fault that ends the migration or the phase. An order that a step yields to lets it finish early and return what
// it has.
func perform[In, Out any](l *lane, activity step.Activity[In, Out], in In) (Out, error) {
	return performAsked(l, activity, func() In { return in })
}

// performAsked is perform for a step whose input may be changed by an order while it waits for a person.
func performAsked[In, Out any](l *lane, activity step.Activity[In, Out], in func() In) (Out, error) {
	var out Out
	for {
		if err := l.admit(); err != nil {
			return out, err
		}
		ctx, cancel := workflow.WithCancel(l.ctx)
		future := activity.Start(ctx, in(), "")
		waitErr := workflow.Await(l.ctx, func() bool { return future.IsReady() || l.interrupted() })
		cancel() // a step that is ready does not notice
		err := future.Get(l.ctx, &out)
		switch {
		case waitErr != nil:
			return out, waitErr
		case err == nil && !l.mustRepeat():
			l.succeeded()
			return out, nil
		case err == nil, temporal.IsCanceledError(err):
			continue // admit decides: stop, pause, or the order it yielded to
		}
		if err := l.endure(err); err != nil {
			return out, err
		}
	}
}

// admit waits while the migration is paused, and tells the orders that end a step before it begins.
func (l *lane) admit() error {
	switch {
	case l.cleaning:
		return nil
	case l.StopAsked:
		return errStopAsked
	case l.Paused != (l.name == laneHold) && (l.name == laneStream || l.name == laneHold || l.Phase == migration.PhaseCutover):
		return errPause
	}
	err := workflow.Await(l.ctx, func() bool { return l.name == laneHold || !l.Paused || l.StopAsked })
	switch {
	case err != nil:
		return err
	case l.StopAsked:
		return errStopAsked
	case l.yields != nil && l.yields():
		return errYielded
	case l.name == laneStream && workflow.GetInfo(l.ctx).GetContinueAsNewSuggested():
		return errContinue
	}
	return nil
}

var (
	// errYielded leaves a step because an order that it yields to was given.
	errYielded = errors.New("gave way to an order")
	// errPause leaves a step whose caller does something else while the migration is paused, or no longer is.
	errPause = errors.New("the pause began or ended")
)

func (l *lane) interrupted() bool {
	if l.cleaning {
		return false
	}
	return l.StopAsked || l.Paused != (l.name == laneHold) || l.yields != nil && l.yields()
}

// mustRepeat tells a step that was interrupted, and returned without an error, from one that is done: only streams
// return early with a result, and they tell by Reached; all others are done when they say so.
func (l *lane) mustRepeat() bool {
	return !l.cleaning && (l.name == laneStream || l.name == laneHold) && l.interrupted()
}

func (l *lane) succeeded() {
	delete(l.Outages, l.name)
	if l.Attention == nil {
		l.Last = nil
	}
}

// endure books a failed attempt and waits as the policy says. nil means: try again.
func (l *lane) endure(err error) error {
	fault, progress := faultOf(err)
	l.Last = fault
	if fault.Objects != nil {
		l.Objects, fault.Objects = *fault.Objects, nil // once is enough
	}
	if fault.Kind == l.fatal {
		return fault
	}
	switch migration.Policy[fault.Kind] {
	case migration.RetryConnection, migration.RetryOther:
		return l.waitOut(fault, progress)
	case migration.Ask:
		return l.ask(fault)
	case migration.RetryAtOnce:
		return nil
	case migration.Return, migration.Never: // the caller knows what comes next
	}
	return fault
}

// faultOf takes the engine's fault out of what Temporal made of it. What is no fault of ours is a bug that a person
// looks at.
func faultOf(err error) (*migration.Fault, step.Progress) {
	var fault migration.Fault
	var progress step.Progress
	var application *temporal.ApplicationError
	if errors.As(err, &application) && application.HasDetails() {
		if application.Details(&fault, &progress) == nil && fault.Kind != "" {
			return &fault, progress
		}
	}
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) {
		return migration.NewFault(migration.FaultOther, "run a step", "", err, ""), progress
	}
	return migration.NewFault(migration.FaultBug, "run a step", "", err, "report this, then `pgdts resume` to try again"), progress
}

func (l *lane) outage() *outage {
	if l.Outages[l.name] == nil {
		l.Outages[l.name] = &outage{}
	}
	return l.Outages[l.name]
}

// waitOut lets the window of a fault run: for connections by a probe that Temporal retries, else by a timer. When the
// window has ended, one fresh attempt decides.
func (l *lane) waitOut(fault *migration.Fault, progress step.Progress) error {
	if l.Attention != nil && !l.spec.Has(migration.TypeIncremental) {
		// Without a snapshot the copy's lanes fail, and while a person is asked about it their windows must not end.
		delete(l.Outages, l.name)
		return workflow.Await(l.ctx, func() bool { return l.Attention == nil || l.interrupted() })
	}
	o := l.outage()
	left := o.observe(workflow.Now(l.ctx), fault, progress, l.Windows)
	if left <= 0 {
		return l.windowEnded(fault)
	}
	o.Waiting = true
	l.describe()
	defer func() { o.Waiting = false; l.describe() }()
	if migration.Policy[fault.Kind] == migration.RetryConnection {
		if err := l.awaitServers(); err != nil {
			return err
		}
		if o.Failures == 1 {
			return nil // reachable again, first failure: go on at once
		}
	}
	left = o.left(workflow.Now(l.ctx), l.Windows)
	return l.sleep(min(o.backoff(), max(left, 0)))
}

func (l *lane) windowEnded(fault *migration.Fault) error {
	o := l.outage()
	if !o.LastChance && !l.cleaning {
		o.LastChance = true
		return nil
	}
	kind := "retry.other"
	if migration.Policy[fault.Kind] == migration.RetryConnection {
		kind = "retry.connection"
	}
	ended := migration.NewFault(migration.FaultWindow, "", "", fault, "")
	ended.Message = "the window " + kind + " ended; last error: " + fault.Error()
	ended.Object, ended.SQLState, ended.Side = fault.Object, fault.SQLState, fault.Side
	if l.spec.OnFailure == migration.WaitOnFailure && !l.cleaning {
		delete(l.Outages, l.name)
		return l.ask(ended)
	}
	return ended
}

// awaitServers probes both servers until they answer or the window ends. Lanes share one probe. A changed window, a
// pause and a stop end the wait; the step then finds out for itself.
func (l *lane) awaitServers() error {
	if l.probing {
		return workflow.Await(l.ctx, func() bool { return !l.probing || l.interrupted() })
	}
	l.probing = true
	defer func() { l.probing = false }()
	for {
		left := l.outage().left(workflow.Now(l.ctx), l.Windows)
		if left <= 0 {
			return nil // the step's own next failure ends the window
		}
		changes := l.WindowChanges
		ctx, cancel := workflow.WithCancel(l.ctx)
		probe := step.Probe
		probe.Options.ScheduleToCloseTimeout = left
		future := probe.Start(ctx, step.ProbeIn{Spec: l.spec}, "wait for the server, window ends "+
			workflow.Now(l.ctx).Add(left).UTC().Format(time.RFC3339))
		err := workflow.Await(l.ctx, func() bool {
			return future.IsReady() || l.interrupted() || l.WindowChanges != changes
		})
		cancel()
		probeErr := future.Get(l.ctx, nil)
		if err != nil || l.WindowChanges == changes {
			if probeErr != nil && !temporal.IsCanceledError(probeErr) {
				l.Last, _ = faultOf(probeErr)
			}
			return err
		}
	}
}

// sleep waits, and wakes for orders.
func (l *lane) sleep(pause time.Duration) error {
	_, err := workflow.AwaitWithTimeout(l.ctx, pause, l.interrupted)
	return err
}

// ask waits for a person: resume tries again, stop ends the migration.
func (l *lane) ask(fault *migration.Fault) error {
	if l.cleaning {
		return fault
	}
	err := workflow.Await(l.ctx, func() bool { return l.Attention == nil || l.StopAsked })
	if err != nil || l.StopAsked {
		return err
	}
	l.Attention = &migration.Attention{
		Fault: *fault, Since: workflow.Now(l.ctx), Command: "pgdts resume " + string(l.spec.ID),
	}
	l.ResumeAsked = false
	l.describe()
	workflow.GetLogger(l.ctx).Warn("attention needed", migration.KeyMigration, l.spec.ID, migration.KeyFault, fault.Kind, migration.KeyError, fault.Error())
	err = workflow.Await(l.ctx, func() bool { return l.ResumeAsked || l.StopAsked })
	l.Attention, l.ResumeAsked = nil, false
	l.describe()
	return err
}
