package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Objects that take no time go several at a time: one transaction, one statement that makes them all, one that records
// them. When one of them fails, none of them is there, and they are tried one by one.

// batchMax bounds the locks of one transaction: a table has its TOAST table, its types and its sequences too.
const batchMax = 100

// slow kinds read the rows, or change what comes after them, and go by themselves.
var slow = []string{"MATERIALIZED VIEW DATA", "CHECK CONSTRAINT", "EVENT TRIGGER", "VALIDATION"}

// copies reports whether tables have rows when their indexes are built.
func (c Config) copies() bool {
	return len(c.Spec.Types) == 0 || c.Spec.Has(migration.TypeFull) || c.keeps()
}

func (r *run) batched(o ledger.Object) bool {
	return !slices.Contains(slow, o.Kind) && (class(o) == alone || !r.cfg.copies())
}

// portions puts together what locks the same tables, where that is quickly made.
func (r *run) portions(todo []ledger.Object) []work {
	var portions []work
	of := map[string]int{}
	for _, o := range todo {
		key := fmt.Sprint(o.Locks)
		at, known := of[key]
		if known && r.batched(o) && len(portions[at]) < batchMax {
			portions[at] = append(portions[at], o)
			continue
		}
		of[key] = len(portions)
		portions = append(portions, work{o})
	}
	return portions
}

// largestFirst lets what takes longest not begin last. A foreign key reads the table that it belongs to.
func largestFirst(portions []work, sizes map[uint32]int64) []work {
	slices.SortStableFunc(portions, func(a, b work) int { return cmp.Compare(sizes[b[0].Relid], sizes[a[0].Relid]) })
	return portions
}

// together makes objects in their order, as many at a time as may be.
func (r *run) together(ctx context.Context, s *session, todo []ledger.Object) error {
	for len(todo) > 0 {
		n := r.prefix(todo)
		if n > 1 {
			made, err := r.tryAll(ctx, s, todo[:n])
			if err != nil {
				return err
			}
			if made {
				todo = todo[n:]
				continue
			}
		}
		for _, o := range todo[:max(n, 1)] {
			if err := r.try(ctx, s, o); err != nil {
				return err
			}
		}
		todo = todo[max(n, 1):]
	}
	return nil
}

// prefix counts the objects at the beginning that may go in one transaction: each needs only what is done or among them.
func (r *run) prefix(todo []ledger.Object) int {
	among := map[int]bool{}
	for n, o := range todo[:min(len(todo), batchMax)] {
		if blocked, _ := r.blocked(o, among); blocked || !r.batched(o) || r.aboutKept(o) {
			return n
		}
		among[o.DumpID] = true
	}
	return min(len(todo), batchMax)
}

// tryAll reports false when one of the objects failed by itself, or they need too many locks together.
func (r *run) tryAll(ctx context.Context, s *session, objects []ledger.Object) (bool, error) {
	r.mu.Lock()
	r.cfg.Report(beat(objects[0].Title(), r.done, len(r.objects)))
	r.mu.Unlock()
	err := s.createAll(ctx, objects)
	var own *objectError
	switch {
	case errors.As(err, &own) || pg.SQLState(err) == "53200":
		return false, nil
	case err != nil:
		return false, s.fault(objects[0], err)
	}
	for _, o := range objects {
		r.finish(o, ledger.ObjectDone)
	}
	return true, nil
}

// createAll is create for several: all of them, or none.
func (s *session) createAll(ctx context.Context, objects []ledger.Object) error {
	return pgx.BeginFunc(ctx, s.Conn, func(tx pgx.Tx) error {
		if err := s.guard(ctx, tx, objects[0].Section); err != nil {
			return err
		}
		numbers := make([]int, len(objects))
		for i, o := range objects {
			numbers[i] = o.No
		}
		states, err := s.LockObjects(ctx, tx, numbers)
		if err != nil {
			return err
		}
		var ddl strings.Builder
		var made []int
		for _, o := range objects {
			if state := states[o.No]; state == ledger.ObjectPending || state == ledger.ObjectFailed {
				ddl.WriteString(o.DDL + "\n;\n")
				made = append(made, o.No)
			}
		}
		if err := s.execute(ctx, class(objects[0]), ddl.String()); err != nil {
			return ownFailure(err)
		}
		for _, o := range objects {
			if err := failpoint.Hit(failpointOf(o)); err != nil {
				return err
			}
		}
		return s.FinishObjects(ctx, tx, made)
	})
}
