package schema

import (
	"context"
	"errors"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
)

// Together builds keys and plain indexes of several tables that hold little, a hundred in a transaction. A second call finds
// them done. False when one of them fails by itself, or they need too many locks together: then Key and Indexes, which find
// what was built, do the rest table by table and tell which it was.
func (c *Creator) Together(ctx context.Context, relids []uint32) (bool, error) {
	s, err := c.another(ctx)
	if err != nil {
		return false, err
	}
	objects, err := s.ObjectsOfTables(ctx, []string{Key, Index}, relids)
	if err != nil {
		s.close()
		return false, c.cfg.Target.Fault("read the ledger of", string(s.ID), err)
	}
	objects = slices.DeleteFunc(objects, func(o ledger.Object) bool {
		return o.State == ledger.ObjectDone || o.State == ledger.ObjectSkipped
	})
	for batch := range slices.Chunk(objects, batchMax) {
		err := s.createAll(ctx, batch)
		var own *objectError
		switch {
		case err == nil:
			continue
		case errors.As(err, &own) || pg.SQLState(err) == "53200":
			c.giveBack(s)
			return false, nil
		}
		s.close()
		return false, s.fault(batch[0], err)
	}
	c.giveBack(s)
	return true, nil
}

// giveBack keeps a session for the next call.
func (c *Creator) giveBack(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, s)
}
