package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/follow"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/throttle"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Config says what to cut over. Report and Logger must be set.
type Config struct {
	Source, Target *pg.Server
	Spec           migration.Spec
	Run            string
	// Skip names objects that a person has said to leave out, by title or by number in the ledger.
	Skip   []string
	Report func(migration.Beat)
	Logger *zap.Logger

	Gate *throttle.Meter // nil: open; before the fence alone

	// TransactionAgeMax is how old a writing transaction on the source may be when the fence is begun; 0 = 60 s.
	TransactionAgeMax time.Duration
}

const (
	laneName          = "cutover"
	transactionAgeMax = time.Minute
	// latencyMax is the gate: how far behind the target may be when the fence is begun.
	latencyMax = 5 * time.Second
	// undoWithin bounds what lifts a fence after everything else was given up.
	undoWithin = 20 * time.Second
)

// Steps, as reports name them.
const (
	stepGates     = "gates"
	stepFence     = "fence"
	stepMarker    = "marker"
	stepDrain     = "drain"
	stepVerify    = "verify"
	stepSequences = "sequences"
	stepOpen      = "open"
)

// Run moves the writes. It applies changes all the while. When the target was opened by an earlier attempt it returns
// that evidence and does only what comes after the opening; otherwise it begins by undoing what an earlier attempt left.
//
// Until the target is opened every error leaves the source writable and the migration as it was: a fault not-ready names
// the gate, blocker or difference; faults of the connection, the slot and the stream come back as they are. The one
// exception is a target that does not answer whether it was opened: then the source stays closed until a later call
// has found out. Errors after the opening are notes of the evidence.
func Run(ctx context.Context, config Config) (ledger.Evidence, error) {
	if config.TransactionAgeMax == 0 {
		config.TransactionAgeMax = transactionAgeMax
	}
	a := &attempt{Config: config}
	defer a.close()
	if err := a.enter(ctx); err != nil {
		return ledger.Evidence{}, err
	}
	opened, err := a.resume(ctx)
	if err == nil && !opened {
		err = a.cutOver(ctx)
	}
	if err != nil {
		return ledger.Evidence{}, err
	}
	if err := failpoint.Hit(failpoint.CutoverOpened); err != nil {
		return ledger.Evidence{}, err
	}
	a.finish(ctx)
	return a.evidence, nil
}

// attempt is one call of Run.
type attempt struct {
	Config
	lane     ledger.Lane
	target   *pgx.Conn // reads and writes the ledger
	source   *pgx.Conn // looks, beside the session that holds the fence
	follower *follow.Follower
	// endStream tells the follower to stop, and does not wait for it.
	endStream context.CancelFunc
	fence     *fence
	scope     scope
	evidence  ledger.Evidence
	blocked   time.Time // since when writers have been kept off; zero without a fence

	mu   sync.Mutex
	step string
	said string
}

func (a *attempt) ledger() ledger.Ledger { return ledger.Ledger{ID: a.Spec.ID, Conn: a.target} }

// enter takes the lane and ends what an earlier attempt left on both servers: its locks go with its sessions.
func (a *attempt) enter(ctx context.Context) (err error) {
	if a.lane, a.target, err = enterLane(ctx, a.Config); err != nil {
		return err
	}
	if a.source, err = a.Source.Connect(ctx, a.lane.Session()); err != nil {
		return err
	}
	return a.Source.Fault("end earlier sessions of lane", laneName, a.lane.TerminateEarlier(ctx, a.source))
}

// enterLane opens the session on the target that carries the lane's new name.
func enterLane(ctx context.Context, config Config) (ledger.Lane, *pgx.Conn, error) {
	first, err := config.Target.Connect(ctx, config.Spec.ID.Session(laneName, 0))
	if err != nil {
		return ledger.Lane{}, nil, err
	}
	defer pg.Close(first)
	lane, err := ledger.Ledger{ID: config.Spec.ID, Conn: first}.Enter(ctx, config.Run, laneName)
	if err != nil {
		return lane, nil, config.Target.Fault("enter lane", laneName, err)
	}
	conn, err := config.Target.Connect(ctx, lane.Session())
	return lane, conn, err
}

func (a *attempt) close() {
	a.fence.close()
	pg.Close(a.source)
	pg.Close(a.target)
}

// resume finds out where an earlier attempt came to. One that did not open the target is undone. opened_at is read after
// the earlier attempt's sessions have ended, so that none of them can set it any more.
func (a *attempt) resume(ctx context.Context) (opened bool, err error) {
	known, err := a.ledger().Read(ctx)
	if err != nil {
		return false, a.Target.Fault("read ledger", string(a.Spec.ID), err)
	}
	if known.OpenedAt != nil {
		a.evidence, err = a.ledger().Evidence(ctx)
		return true, a.Target.Fault("read evidence", string(a.Spec.ID), err)
	}
	removed, err := lift(ctx, a.Source, a.source, a.Spec.ID)
	if err != nil {
		return false, err
	}
	if len(removed) > 0 {
		a.Logger.Info("lifted the fence of an earlier attempt", zap.Strings("removed", removed))
	}
	if known.FencedAt != nil {
		err = a.lane.ForgetFence(ctx, a.target)
	}
	return false, a.Target.Fault("write ledger", string(a.Spec.ID), err)
}

// cutOver runs the stream beside everything that leads to the opening.
func (a *attempt) cutOver(ctx context.Context) error {
	working, give := context.WithCancelCause(ctx)
	var streaming context.Context
	streaming, a.endStream = context.WithCancel(ctx)
	a.follower = follow.New(follow.Config{
		Source: a.Source, Target: a.Target, Spec: a.Spec, Run: a.Run, Logger: a.Logger, Report: a.relay, Gate: a.Gate,
	})
	var background sync.WaitGroup
	// Ends with streaming, or when the stream fails; then everything else is given up.
	background.Go(func() {
		if err := a.follower.Run(streaming); err != nil {
			give(err)
		}
	})
	err := a.open(working, give)
	cause := context.Cause(working)
	give(nil)
	a.endStream()
	background.Wait()
	if err == nil {
		return nil
	}
	err = a.reason(ctx, cause, err)
	a.Logger.Warn("gave up the cutover", zap.String(migration.KeyPart, a.at()), zap.Error(err))
	return a.undo(ctx, err)
}

// open leads from the gates to the opening.
func (a *attempt) open(ctx context.Context, give context.CancelCauseFunc) error {
	a.at(stepGates)
	if err := a.gates(ctx); err != nil {
		return err
	}
	a.at(stepFence)
	if err := a.raise(ctx, give); err != nil {
		return err
	}
	a.follower.Hurry() // writers wait
	deadline := time.AfterFunc(a.Spec.Cutover.Deadline.D(), func() {
		give(notReady("cut over", "", fmt.Sprintf("the deadline of %s ended in step %s", a.Spec.Cutover.Deadline, a.at()),
			"raise cutover.deadline, or let cutover.verify do less"))
	})
	defer deadline.Stop()
	for _, next := range []func(context.Context) error{a.drain, a.verify, a.setSequences, a.drainAgain, a.openTarget} {
		if err := next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// survivable faults concern the cutover alone: the migration goes on without it. Of a source that failed over, the stream
// finds out whether it can be followed.
var survivable = []migration.FaultKind{
	migration.FaultOther, migration.FaultPrivilege, migration.FaultObject, migration.FaultWrongServer, migration.FaultReplaced,
}

// reason tells why the cutover was given up: what cancelled it goes before the cancellation that it caused elsewhere.
func (a *attempt) reason(ctx context.Context, cause, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if fault, ok := migration.AsFault(cause); ok {
		err = fault
	}
	fault, ok := migration.AsFault(err)
	if !ok {
		fault, _ = migration.AsFault(pg.Fault("", "cut over", "", err))
		if fault == nil {
			return err
		}
	}
	if slices.Contains(survivable, fault.Kind) {
		given := *fault
		given.Kind = migration.FaultNotReady
		return &given
	}
	return fault
}

// undo gives writes back to the source and returns err, or what is worse: that it could not be done.
func (a *attempt) undo(ctx context.Context, err error) error {
	if errors.Is(err, errUndecided) {
		return err
	}
	a.fence.close()
	if !a.fence.recorded() {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
	defer cancel()
	if liftErr := a.liftAgain(ctx); liftErr != nil {
		a.Logger.Error("could not lift the fence", zap.Error(liftErr),
			zap.String(migration.KeyHint, "pgdts unfence lets writes back onto the source; the next attempt tries it too"))
		if _, ok := migration.AsFault(err); ok {
			return liftErr
		}
	}
	return err
}

// liftAgain uses new sessions: those of the attempt may have been cut off in the middle of a query. An attempt that was
// frozen while a later one opened the target must not lift that one's fence: the source would take writes that nobody
// moves. So the target is asked first, and the session on the source is older than the answer: a later attempt ends it
// before it sets anything there.
func (a *attempt) liftAgain(ctx context.Context) error {
	source, err := a.Source.Connect(ctx, a.lane.Session())
	if err != nil {
		return err
	}
	defer pg.Close(source)
	target, err := a.Target.Connect(ctx, a.lane.Session())
	if err != nil {
		return err
	}
	defer pg.Close(target)
	err = pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error { return a.lane.Guard(ctx, tx) })
	if err != nil {
		return a.Target.Fault("ask who holds lane", laneName, err)
	}
	if err := a.fence.end(ctx, source); err != nil {
		return a.Source.Fault("end the session of", "the fence", err)
	}
	if _, err := lift(ctx, a.Source, source, a.Spec.ID); err != nil {
		return err
	}
	return a.Target.Fault("write ledger", string(a.Spec.ID), a.lane.ForgetFence(ctx, target))
}

// at sets the step, when one is given, and returns it.
func (a *attempt) at(step ...string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(step) > 0 {
		a.step, a.said = step[0], step[0]
		a.Logger.Info("cutover entered a step", zap.String(migration.KeyPart, a.step))
	}
	return a.step
}

// say reports what the step is doing; done and total are its own units.
func (a *attempt) say(detail string, done, total int) {
	a.mu.Lock()
	a.said = a.step
	if detail != "" {
		a.said += ": " + detail
	}
	a.mu.Unlock()
	beat := migration.Beat{}
	if a.follower != nil {
		beat = a.follower.Status()
	}
	beat.Done, beat.Total = int64(done), int64(total)
	a.relay(beat)
}

// relay passes a report on under the name of the step.
func (a *attempt) relay(beat migration.Beat) {
	a.mu.Lock()
	beat.Step, beat.At, beat.Message = laneName, time.Now(), a.said
	a.mu.Unlock()
	a.Report(beat)
}

// note keeps something for the report.
func (a *attempt) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.evidence.Notes = append(a.evidence.Notes, text)
	a.Logger.Warn("noted for the report", zap.String("note", text))
}

// notReady is a cutover that was given up; the hint says what would let it pass.
func notReady(op, object, what, hint string) error {
	return migration.NewFault(migration.FaultNotReady, op, object, errors.New(what), hint)
}
