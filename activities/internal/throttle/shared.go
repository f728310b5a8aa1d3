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
	mu    sync.Mutex
	gates map[key]*counted
}

type key struct {
	id   migration.ID
	kind migration.Type
}

type counted struct {
	*Meter
	users int
}

// Enter gives the gate of a migration, kept up to date until everybody has called leave. It opens a session only when it
// has to; an unreachable target is an error here, once, and is waited for afterwards.
func (s *Shared) Enter(ctx context.Context, target *pg.Server, id migration.ID, kind migration.Type, logger *zap.Logger) (gate *Meter, leave func(), err error) {
	of := key{id, kind}
	s.mu.Lock()
	defer s.mu.Unlock()
	shared, found := s.gates[of]
	if !found {
		meter, err := newMeter(ctx, target, id, kind, logger)
		if err != nil {
			return nil, nil, err
		}
		if s.gates == nil {
			s.gates = map[key]*counted{}
		}
		shared = &counted{Meter: meter}
		s.gates[of] = shared
	}
	shared.users++
	return shared.Meter, sync.OnceFunc(func() { s.leave(of) }), nil
}

func (s *Shared) leave(of key) {
	s.mu.Lock()
	shared := s.gates[of]
	if shared.users--; shared.users > 0 {
		s.mu.Unlock()
		return
	}
	delete(s.gates, of)
	s.mu.Unlock()
	shared.close()
}
