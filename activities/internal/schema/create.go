package schema

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Options say how Create treats what fails.
type Options struct {
	// SkipFailed leaves out for good what fails (once more), and what needs it.
	SkipFailed bool
	// Skip names objects that a person has said to leave out, of whatever section, by title ("VIEW public.v") or by
	// number in the ledger. Names of what is done, or of nothing, change nothing.
	Skip []string
}

// Create makes the objects of a section that are not done, in their order; indexes, and foreign keys of different
// tables, several at once. Constraint also makes what is left of Key and Index: those of partitioned roots, what failed
// when its table was finished, and all of them where no rows are copied.
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
	if err := s.leaveOutNamed(ctx, section, opt.Skip); err != nil {
		return migration.ObjectCounts{}, 0, cfg.Target.Fault("leave out", named(opt.Skip), err)
	}
	run, err := newRun(ctx, s, meant)
	if err != nil {
		return migration.ObjectCounts{}, 0, cfg.Target.Fault("read the ledger of", string(s.ID), err)
	}
	failure := run.complete(ctx, opt)
	if fault, ok := migration.AsFault(failure); failure != nil && (!ok || fault.Kind != migration.FaultObject) {
		return migration.ObjectCounts{}, 0, cfg.Target.Fault("create", section+" objects", failure)
	}
	if failure == nil && section == Before {
		_, failure = s.Conn.Exec(ctx, "update dts_sync.migration set schema_created = true where id = $1", s.ID)
	}
	if failure == nil && section == Constraint && cfg.Spec.Has(migration.TypeFull) {
		failure = s.analyze(ctx, section)
	}
	counts, countErr := s.CountObjects(ctx, meant...)
	waiting, waitErr := s.PendingObjects(ctx, Opening)
	return counts, waiting, cfg.Target.Fault("create", section+" objects", errors.Join(failure, countErr, waitErr))
}

// leaveOutNamed records what a person has said, with a note for each object.
func (s *session) leaveOutNamed(ctx context.Context, section string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	return pgx.BeginFunc(ctx, s.Conn, func(tx pgx.Tx) error {
		if err := s.guard(ctx, tx, section); err != nil {
			return err
		}
		skipped, err := s.SkipObjects(ctx, tx, names, "left out by order")
		if err != nil {
			return err
		}
		for _, o := range skipped {
			if err := s.AddNote(ctx, "left out: "+o.Title()+": by order"); err != nil {
				return err
			}
		}
		return nil
	})
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
	kinds   map[int]string  // of these, by DumpID

	mu     sync.Mutex
	states map[int]string // of all objects of the migration, by DumpID
	kept   map[int]bool   // objects that were on the target already
	failed map[int]*objectError
	left   []string // optional objects that the target's role may not make
	done   int
}

func newRun(ctx context.Context, s *session, meant []string) (*run, error) {
	objects, err := s.Objects(ctx, meant...)
	if err != nil {
		return nil, err
	}
	r := &run{session: s, objects: objects, kinds: make(map[int]string, len(objects)), failed: map[int]*objectError{}}
	for _, o := range objects {
		r.kinds[o.DumpID] = o.Kind
		if o.State == ledger.ObjectDone || o.State == ledger.ObjectSkipped {
			r.done++
		}
	}
	if r.states, err = s.ObjectStates(ctx); err != nil {
		return nil, err
	}
	r.kept, err = s.KeptObjects(ctx)
	return r, err
}

// complete makes what can be made. What fails is left out where that is wanted, and then what has waited for it is made.
func (r *run) complete(ctx context.Context, opt Options) error {
	if err := r.all(ctx); err != nil {
		return err
	}
	for len(r.failed) > 0 && opt.SkipFailed {
		if err := r.skipFailed(ctx); err != nil {
			return err
		}
		if err := r.all(ctx); err != nil {
			return err
		}
	}
	return r.settle(ctx)
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
	return r.together(ctx, r.session, todo)
}

// atOnce works on objects from several sessions; two that lock the same table are never in hand together, since they
// would wait for, or deadlock with, each other.
func (r *run) atOnce(ctx context.Context, todo []ledger.Object) error {
	sizes, err := r.TableSizes(ctx)
	if err != nil {
		return r.cfg.Target.Fault("read the ledger of", string(r.ID), err)
	}
	board := newBoard(largestFirst(r.portions(todo), sizes))
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
			for next, ok := board.take(); ok; next, ok = board.take() {
				if err := r.together(ctx, s, next); err != nil {
					return err
				}
				board.release(next)
			}
			return nil
		})
	}
	return group.Wait()
}

// try creates one object if what it depends on is done. The error is one that ends the whole call.
func (r *run) try(ctx context.Context, s *session, o ledger.Object) error {
	if blocked, by := r.blocked(o, nil); blocked {
		if by == ledger.ObjectSkipped {
			o.Message = "needs an object that is left out"
			return r.leaveOut(ctx, s, o)
		}
		return nil // tried again when that is done
	}
	if r.aboutKept(o) {
		o.Message = "what it is about" + unalteredReason
		return r.leaveOut(ctx, s, o)
	}
	r.mu.Lock()
	r.cfg.Report(beat(o.Title(), r.done, len(r.objects)))
	r.mu.Unlock()
	err := s.create(ctx, o)
	var own *objectError
	if err == nil {
		r.finish(o, ledger.ObjectDone)
		return nil
	}
	if !errors.As(err, &own) {
		return s.fault(o, err)
	}
	o.SQLState, o.Message, o.Hint = own.err.Code, own.err.Message, own.err.Hint
	switch {
	case MayLack(o.Kind, own.err.Code):
		r.mu.Lock()
		r.left = append(r.left, o.Title())
		r.mu.Unlock()
		return r.leaveOut(ctx, s, o)
	case s.mayKeep(o, own):
		return r.keepThere(ctx, s, o)
	}
	r.mu.Lock()
	r.failed[o.No] = own
	r.states[o.DumpID] = ledger.ObjectFailed
	r.mu.Unlock()
	r.cfg.Log.Warn("object was not created", zap.String("object", o.Title()),
		zap.String(migration.KeySQLState, own.err.Code), zap.String(migration.KeyError, own.err.Message))
	o.State = ledger.ObjectFailed
	return s.fault(o, s.record(ctx, o))
}

// MayLack reports whether a failure says that the target's role has no right to the object, or that what the object names
// beside the database, a role or a label's provider, is not there, and the object may be left out for that: the rows are
// the same without it.
func MayLack(kind, sqlstate string) bool {
	switch sqlstate {
	case "42501":
		return slices.Contains(optional, kind) || kind == "EVENT TRIGGER"
	case "42704":
		return slices.Contains(optional, kind) || kind == "USER MAPPING"
	case "22023":
		return kind == "SECURITY LABEL"
	}
	return false
}

// blocked tells whether something that o depends on is not done, and its state; a skipped one counts first. What is in
// made counts as done. A table's columns are changed when all that reads them is made or left out for good.
func (r *run) blocked(o ledger.Object, made map[int]bool) (bool, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	blocked, by := false, ""
	for _, id := range o.Depends {
		state, known := r.states[id]
		if !known || state == ledger.ObjectDone || made[id] || by == ledger.ObjectSkipped {
			continue
		}
		if o.Kind == kindColumns && state == ledger.ObjectSkipped && r.kinds[id] != "TABLE" {
			continue
		}
		blocked, by = true, state
	}
	return blocked, by
}

func (r *run) leaveOut(ctx context.Context, s *session, o ledger.Object) error {
	o.State = ledger.ObjectSkipped
	if err := s.record(ctx, o); err != nil {
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
