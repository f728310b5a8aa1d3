package schema

import (
	"context"
	"errors"

	"github.com/pgdts/pgdts/activities/internal/ledger"
)

// Creator makes a table's key and indexes when its rows are there. It keeps no session between calls, so that lanes may
// call it for different tables at once.
type Creator struct{ cfg Config }

// NewCreator makes a Creator; it opens nothing.
func NewCreator(cfg Config) *Creator { return &Creator{cfg: cfg} }

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
	s, err := c.cfg.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	objects, err := s.ObjectsOf(ctx, section, relid)
	if err != nil {
		return c.cfg.Target.Fault("read the ledger of", string(s.ID), err)
	}
	for _, o := range objects {
		if o.State == ledger.ObjectDone || o.State == ledger.ObjectSkipped {
			continue
		}
		err := s.create(ctx, o)
		var own *objectError
		if !errors.As(err, &own) {
			if err != nil {
				return s.fault(o, err)
			}
			continue
		}
		if err := s.record(ctx, o, ledger.ObjectFailed, own.err.Code, own.err.Message); err != nil {
			return s.fault(o, err)
		}
		if err := onFailure(o, own); err != nil {
			return err
		}
	}
	return nil
}
