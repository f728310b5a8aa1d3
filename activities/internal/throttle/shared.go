package throttle

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Shared gives all lanes of a process one gate per migration and kind, so that they need one session of the target together.
// Its zero value is ready.
type Shared struct {
	mu    sync.Mutex // held for looks at the map alone, never while a target is asked
	gates map[key]*entry
}

type key struct {
	id   migration.ID
	kind migration.Type
}

// entry is the gate of one migration and kind. Who holds opening opens it; the others of that migration wait, each until its
// own end.
type entry struct {
	users   int // under Shared.mu; those who wait for it too
	opening chan struct{}
	meter   *Meter // nil until somebody has opened it
}

// Enter gives the gate of a migration, kept up to date until everybody has called leave. It opens a session only when it
// has to; an unreachable target is an error here, once, and is waited for afterwards. A target that hangs delays nobody
// but the lanes of its own migration.
func (s *Shared) Enter(ctx context.Context, target *pg.Server, id migration.ID, kind migration.Type, logger *zap.Logger) (gate *Meter, leave func(), err error) {
	of := key{id, kind}
	e := s.join(of)
	gate, err = e.open(ctx, func() (*Meter, error) { return newMeter(ctx, target, id, kind, logger) })
	if err != nil {
		s.leave(of, e)
		return nil, nil, err
	}
	return gate, sync.OnceFunc(func() { s.leave(of, e) }), nil
}

func (s *Shared) join(of key) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := s.gates[of]
	if !found {
		if s.gates == nil {
			s.gates = map[key]*entry{}
		}
		e = &entry{opening: make(chan struct{}, 1)}
		s.gates[of] = e
	}
	e.users++
	return e
}

// open gives the meter that somebody has opened, or opens it. After a failure the next one who waits tries for itself.
func (e *entry) open(ctx context.Context, connect func() (*Meter, error)) (*Meter, error) {
	select {
	case e.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-e.opening }()
	if e.meter != nil {
		return e.meter, nil
	}
	meter, err := connect()
	if err == nil {
		e.meter = meter
	}
	return meter, err
}

// leave closes the meter after the last of its users, who may have been one that could not open it.
func (s *Shared) leave(of key, e *entry) {
	s.mu.Lock()
	e.users--
	last := e.users == 0
	if last {
		delete(s.gates, of)
	}
	s.mu.Unlock()
	if last && e.meter != nil {
		e.meter.close()
	}
}
