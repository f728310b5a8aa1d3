package schema

import (
	"context"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/ledger"
)

// Creator makes a table's key and indexes when its rows are there. Lanes may call it for different tables at once; it has as
// many sessions as there were calls at once, and keeps them for the next ones until Close.
type Creator struct {
	cfg  Config
	mu   sync.Mutex
	idle []*session
}

// NewCreator makes a Creator; it opens nothing.
func NewCreator(cfg Config) *Creator { return &Creator{cfg: cfg} }

// Close ends the sessions. No call may be under way; one that comes later opens its own.
func (c *Creator) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.idle {
		s.close()
	}
	c.idle = nil
}

// session takes a session and reads the objects that are asked for.
func (c *Creator) session(ctx context.Context, section string, relid uint32) (*session, []ledger.Object, error) {
	s, err := c.another(ctx)
	if err != nil {
		return nil, nil, err
	}
	objects, err := s.ObjectsOf(ctx, section, relid)
	if err != nil {
		s.close()
		return nil, nil, c.cfg.Target.Fault("read the ledger of", string(s.ID), err)
	}
	return s, objects, nil
}

// Key builds the index by which changes find the table's rows, with what belongs to it. A second call finds it done; so
// does a call for a table without key. Duplicates, or any other failure of the index, are a fault of kind object.
func (c *Creator) Key(ctx context.Context, relid uint32) error {
	return c.section(ctx, Key, relid, func(o ledger.Object, own *objectError) error {
		return objectFault(c.cfg.Lane.ID, o, own, nil)
	})
}

// Indexes builds the table's plain indexes. One that fails is recorded and left to Create(Constraint), which tries it
// again and reports it: apply can do without it.
func (c *Creator) Indexes(ctx context.Context, relid uint32) error {
	return c.section(ctx, Index, relid, func(ledger.Object, *objectError) error { return nil })
}

func (c *Creator) section(ctx context.Context, section string, relid uint32, onFailure func(ledger.Object, *objectError) error) error {
	s, objects, err := c.session(ctx, section, relid)
	if err != nil {
		return err
	}
	objects = slices.DeleteFunc(objects, func(o ledger.Object) bool {
		return o.State == ledger.ObjectDone || o.State == ledger.ObjectSkipped
	})
	portions := [][]ledger.Object{objects}
	if section == Index && c.cfg.parallel() > 1 {
		portions = dealt(objects, c.cfg.parallel())
	}
	group, ctx := errgroup.WithContext(ctx)
	for n, portion := range portions {
		group.Go(func() error {
			if n == 0 {
				return c.finish(ctx, s, portion, onFailure)
			}
			more, err := c.another(ctx)
			if err != nil {
				return err
			}
			return c.finish(ctx, more, portion, onFailure)
		})
	}
	return group.Wait()
}

// dealt divides indexes of one table among sessions: plain ones do not keep each other from being built at once. There is
// at least one portion.
func dealt(objects []ledger.Object, sessions int) [][]ledger.Object {
	portions := make([][]ledger.Object, max(1, min(sessions, len(objects))))
	for i, o := range objects {
		portions[i%len(portions)] = append(portions[i%len(portions)], o)
	}
	return portions
}

// another takes an idle session or opens one.
func (c *Creator) another(ctx context.Context) (*session, error) {
	c.mu.Lock()
	if last := len(c.idle) - 1; last >= 0 {
		s := c.idle[last]
		c.idle = c.idle[:last]
		c.mu.Unlock()
		if s.Conn.Ping(ctx) == nil {
			return s, nil
		}
		s.close() // the server may have ended a session that was idle for long
	} else {
		c.mu.Unlock()
	}
	return c.cfg.open(ctx)
}

// finish makes objects one after the other, and keeps the session for the next call.
func (c *Creator) finish(ctx context.Context, s *session, objects []ledger.Object, onFailure func(ledger.Object, *objectError) error) error {
	if err := s.finish(ctx, objects, onFailure); err != nil {
		s.close() // whatever it was, the next call has a session of which nothing is left
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, s)
	return nil
}

func (s *session) finish(ctx context.Context, objects []ledger.Object, onFailure func(ledger.Object, *objectError) error) error {
	for _, o := range objects {
		err := s.create(ctx, o)
		var own *objectError
		if !errors.As(err, &own) {
			if err != nil {
				return s.fault(o, err)
			}
			continue
		}
		o.State, o.SQLState, o.Message, o.Hint = ledger.ObjectFailed, own.err.Code, own.err.Message, own.err.Hint
		if err := s.record(ctx, o); err != nil {
			return s.fault(o, err)
		}
		if err := onFailure(o, own); err != nil {
			return err
		}
	}
	return nil
}
