package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Options say how Create treats what fails.
type Options struct {
	// SkipFailed leaves out for good what fails (once more), and what needs it.
	SkipFailed bool
}

// Create makes the objects of a section that are not done, in their order; indexes, and foreign keys of different
// tables, several at once. Constraint also makes what is left of Key and Index: those of partitioned roots, and what
// failed when its table was finished.
//
// An object that fails is recorded and stops only what depends on it. In the end there is either no failed object, or
// a fault of kind object that names them; a second call tries them again. With SkipFailed they become skipped, each with
// a note. The int counts the objects that wait for the opening.
func Create(ctx context.Context, cfg Config, section string, opt Options) (migration.ObjectCounts, int, error) {
	s, err := cfg.open(ctx)
	if err != nil {
		return migration.ObjectCounts{}, 0, err
	}
	defer s.close()
	meant := []string{section}
	if section == Constraint {
		meant = []string{Key, Index, Constraint}
	}
	run, err := newRun(ctx, s, meant)
	if err != nil {
		return migration.ObjectCounts{}, 0, cfg.Target.Fault("read the ledger of", string(s.ID), err)
	}
	if err := run.all(ctx); err != nil {
		return migration.ObjectCounts{}, 0, err
	}
	failure := run.settle(ctx, opt)
	if failure == nil && section == Before {
		_, failure = s.Conn.Exec(ctx, "update dts_sync.migration set schema_created = true where id = $1", s.ID)
	}
	counts, countErr := s.CountObjects(ctx, meant...)
	waiting, waitErr := s.PendingObjects(ctx, Opening)
	return counts, waiting, cfg.Target.Fault("create", section+" objects", errors.Join(failure, countErr, waitErr))
}

// Classes of objects by how they may run beside each other.
const (
	alone = iota
	building
	referring
)

func class(o ledger.Object) int {
	switch o.Kind {
	case "INDEX", "CONSTRAINT":
		return building
	case "FK CONSTRAINT", "VALIDATION":
		return referring
	}
	return alone
}

// run is one call's view of its objects.
type run struct {
	*session
	objects []ledger.Object // in order

	mu     sync.Mutex
	states map[int]string // of all objects of the migration, by DumpID
	failed map[int]*objectError
	left   []string // optional objects that the target's role may not make
	done   int
}

func newRun(ctx context.Context, s *session, meant []string) (*run, error) {
	objects, err := s.Objects(ctx, meant...)
	if err != nil {
		return nil, err
	}
	states, err := s.ObjectStates(ctx)
	r := &run{session: s, objects: objects, states: states, failed: map[int]*objectError{}}
	for _, o := range objects {
		if o.State == ledger.ObjectDone || o.State == ledger.ObjectSkipped {
			r.done++
		}
	}
	return r, err
}

// all runs stretches of objects of one class after each other.
func (r *run) all(ctx context.Context) error {
	r.cfg.Report(beat("", r.done, len(r.objects)))
	for start := 0; start < len(r.objects); {
		end := start + 1
		for end < len(r.objects) && class(r.objects[end]) == class(r.objects[start]) {
			end++
		}
		if err := r.stretch(ctx, r.objects[start:end]); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// stretch repeats while something came of it: an object may wait for another of its stretch.
func (r *run) stretch(ctx context.Context, objects []ledger.Object) error {
	for left := len(objects) + 1; ; {
		todo := slices.DeleteFunc(slices.Clone(objects), func(o ledger.Object) bool { return !r.open(o) })
		if len(todo) == 0 || len(todo) >= left {
			return nil
		}
		left = len(todo)
		if err := r.pass(ctx, todo); err != nil {
			return err
		}
	}
}

// open reports whether this call has not tried the object yet.
func (r *run) open(o ledger.Object) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.states[o.DumpID]
	return state != ledger.ObjectDone && state != ledger.ObjectSkipped && r.failed[o.No] == nil
}

func (r *run) pass(ctx context.Context, todo []ledger.Object) error {
	if class(todo[0]) != alone && len(todo) > 1 && r.cfg.parallel() > 1 {
		return r.atOnce(ctx, todo)
	}
	for _, o := range todo {
		if err := r.try(ctx, r.session, o); err != nil {
			return err
		}
	}
	return nil
}

// atOnce works on objects from several sessions; two that lock the same table are never in hand together, since they
// would wait for, or deadlock with, each other.
func (r *run) atOnce(ctx context.Context, todo []ledger.Object) error {
	board := newBoard(todo)
	group, ctx := errgroup.WithContext(ctx)
	for n := range min(r.cfg.parallel(), len(todo)) {
		group.Go(func() (err error) {
			// A worker that ends, for whatever reason, must not leave others waiting for its tables.
			defer func() {
				if err != nil {
					board.close()
				}
			}()
			s := r.session
			if n > 0 {
				if s, err = r.cfg.open(ctx); err != nil {
					return err
				}
				defer s.close()
			}
			for o, ok := board.take(); ok; o, ok = board.take() {
				if err := r.try(ctx, s, o); err != nil {
					return err
				}
				board.release(o)
			}
			return nil
		})
	}
	return group.Wait()
}

// try creates one object if what it depends on is done. The error is one that ends the whole call.
func (r *run) try(ctx context.Context, s *session, o ledger.Object) error {
	if blocked, by := r.blocked(o); blocked {
		if by == ledger.ObjectSkipped {
			return r.leaveOut(ctx, s, o, "", "needs an object that is left out")
		}
		return nil // tried again when that is done
	}
	r.mu.Lock()
	r.cfg.Report(beat(o.Title(), r.done, len(r.objects)))
	r.mu.Unlock()
	err := s.create(ctx, o)
	var own *objectError
	switch {
	case err == nil:
		r.finish(o, ledger.ObjectDone)
		return nil
	case !errors.As(err, &own):
		return s.fault(o, err)
	case slices.Contains(optional, o.Kind) && (own.err.Code == "42501" || own.err.Code == "42704"):
		r.mu.Lock()
		r.left = append(r.left, o.Title())
		r.mu.Unlock()
		return r.leaveOut(ctx, s, o, own.err.Code, own.err.Message)
	}
	r.mu.Lock()
	r.failed[o.No] = own
	r.states[o.DumpID] = ledger.ObjectFailed
	r.mu.Unlock()
	r.cfg.Log.Warn("object was not created", zap.String("object", o.Title()),
		zap.String(migration.KeySQLState, own.err.Code), zap.String(migration.KeyError, own.err.Message))
	return s.fault(o, s.record(ctx, o, ledger.ObjectFailed, own.err.Code, own.err.Message))
}

// blocked tells whether something that o depends on is not done, and its state; a skipped one counts first.
func (r *run) blocked(o ledger.Object) (bool, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	blocked, by := false, ""
	for _, id := range o.Depends {
		state, known := r.states[id]
		if known && state != ledger.ObjectDone && by != ledger.ObjectSkipped {
			blocked, by = true, state
		}
	}
	return blocked, by
}

func (r *run) leaveOut(ctx context.Context, s *session, o ledger.Object, sqlstate, message string) error {
	if err := s.record(ctx, o, ledger.ObjectSkipped, sqlstate, message); err != nil {
		return s.fault(o, err)
	}
	r.finish(o, ledger.ObjectSkipped)
	return nil
}

func (r *run) finish(o ledger.Object, state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states[o.DumpID] = state
	r.done++
	r.cfg.Report(beat(o.Title(), r.done, len(r.objects)))
}

// settle decides about what failed, and writes the notes.
func (r *run) settle(ctx context.Context, opt Options) error {
	if len(r.left) > 0 {
		note := "left out for want of a right or a role on the target: " + named(r.left)
		if err := r.AddNote(ctx, note); err != nil {
			return err
		}
	}
	if len(r.failed) > 0 && !opt.SkipFailed {
		return r.objectFault()
	}
	for _, o := range r.objects {
		if err := r.skip(ctx, o); err != nil {
			return err
		}
	}
	return r.nothingForgotten()
}

// skip leaves out an object that failed, or that needs one that is left out.
func (r *run) skip(ctx context.Context, o ledger.Object) error {
	if own := r.failed[o.No]; own != nil {
		if err := r.leaveOut(ctx, r.session, o, own.err.Code, own.err.Message); err != nil {
			return err
		}
		return r.AddNote(ctx, fmt.Sprintf("left out: %s: %s (SQLSTATE %s)", o.Title(), own.err.Message, own.err.Code))
	}
	if blocked, by := r.blocked(o); blocked && by == ledger.ObjectSkipped && r.open(o) {
		return r.leaveOut(ctx, r.session, o, "", "needs an object that is left out")
	}
	return nil
}

// nothingForgotten refuses to call a section complete that is not: an object may wait for one of an earlier section
// that nobody has created.
func (r *run) nothingForgotten() error {
	for _, o := range r.objects {
		if r.open(o) {
			return migration.Faultf(migration.FaultObject, "create", o.Title(), "it needs an object of an earlier section that is not there")
		}
	}
	return nil
}

// objectFault names what failed; the first one's state and message are the fault's.
func (r *run) objectFault() error {
	var first ledger.Object
	var titles []string
	for _, o := range r.objects {
		if r.failed[o.No] == nil {
			continue
		}
		if titles == nil {
			first = o
		}
		titles = append(titles, o.Title())
	}
	return objectFault(r.ID, first, r.failed[first.No], titles)
}

func objectFault(id migration.ID, first ledger.Object, own *objectError, titles []string) error {
	cause := own.err.Message
	if len(titles) > 1 {
		cause += fmt.Sprintf("; %d objects failed: %s", len(titles), named(titles))
	}
	hint := fmt.Sprintf("mend the cause on the target and type `pgdts resume %s`; to leave the object out, run there first: "+
		"update dts_sync.object set state = 'skipped' where migration = %s and no = %d (its SQL is in column ddl)",
		id, migration.Literal(string(id)), first.No)
	fault := migration.NewFault(migration.FaultObject, "create", first.Title(), errors.New(cause), hint)
	fault.Side, fault.SQLState = migration.Target, own.err.Code
	return fault
}

const namedMax = 5

// named joins the first few.
func named(titles []string) string {
	text := ""
	for i, title := range titles[:min(len(titles), namedMax)] {
		if i > 0 {
			text += ", "
		}
		text += title
	}
	if more := len(titles) - namedMax; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
