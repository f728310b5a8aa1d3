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
// many sessions as there were calls at once, and keeps them for the next ones until Close. What builds several indexes of
// one table beside each other goes when they are built.
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
	left := &pile{objects: objects}
	sessions := 1
	if section == Index && len(objects) > 1 {
		if sessions, err = s.share(ctx); err != nil {
			s.close()
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.finish(ctx, s, left, onFailure) })
	for n := 1; n < min(sessions, len(objects)); n++ {
		group.Go(func() error { return c.help(ctx, n, left, onFailure) })
	}
	return group.Wait()
}

// share is how many sessions this lane may build with: all lanes together have parallel.index.
func (s *session) share(ctx context.Context) (int, error) {
	builders, err := s.Builders(ctx)
	return max(1, s.cfg.parallel()/max(1, builders)), s.cfg.Target.Fault("read the ledger of", string(s.ID), err)
}

// help is the lane's session number n: it ends when the lane's share is no longer so large, after the index that it is at.
func (c *Creator) help(ctx context.Context, n int, left *pile, onFailure func(ledger.Object, *objectError) error) error {
	s, err := c.cfg.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		if share, err := s.share(ctx); err != nil || n >= share {
			return err
		}
		o, ok := left.next()
		if !ok {
			return nil
		}
		if err := s.finish(ctx, o, onFailure); err != nil {
			return err
		}
	}
}

// pile hands out what is to be built of one table. Plain indexes do not keep each other from being built at once.
type pile struct {
	mu      sync.Mutex
	objects []ledger.Object
}

func (p *pile) next() (ledger.Object, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.objects) == 0 {
		return ledger.Object{}, false
	}
	o := p.objects[0]
	p.objects = p.objects[1:]
	return o, true
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

// finish makes what is left, one after the other, and keeps the session for the next call.
func (c *Creator) finish(ctx context.Context, s *session, left *pile, onFailure func(ledger.Object, *objectError) error) error {
	for o, ok := left.next(); ok; o, ok = left.next() {
		if err := s.finish(ctx, o, onFailure); err != nil {
			s.close() // whatever it was, the next call has a session of which nothing is left
			return err
		}
	}
	c.giveBack(s)
	return nil
}

// finish makes one object, or records that it cannot be made.
func (s *session) finish(ctx context.Context, o ledger.Object, onFailure func(ledger.Object, *objectError) error) error {
	err := s.create(ctx, o)
	var own *objectError
	if !errors.As(err, &own) {
		return s.fault(o, err)
	}
	o.State, o.SQLState, o.Message, o.Hint = ledger.ObjectFailed, own.err.Code, own.err.Message, own.err.Hint
	if err := s.record(ctx, o); err != nil {
		return s.fault(o, err)
	}
	return onFailure(o, own)
}
