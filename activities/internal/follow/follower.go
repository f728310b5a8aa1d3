package follow

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/apply"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/activities/internal/stream"
	"github.com/pgdts/pgdts/activities/internal/throttle"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Config says what to follow. Report and Logger must be set.
type Config struct {
	Source, Target *pg.Server
	Spec           migration.Spec
	Run            string
	Report         func(migration.Beat)
	Logger         *zap.Logger
	Gate           *throttle.Meter // nil: open
	// FollowDDL lets the target have new indexes and comments of the source while changes are followed, where the definition
	// says so. A cutover does not: it would wait for them.
	FollowDDL bool
	// FollowFailover lets the migration go on with a standby that has taken the source's place, where that is exact. A cutover
	// does not: what it has fenced may be another server.
	FollowFailover bool
}

// laneName is where the stream writes. The cutover follows in the same lane: only one of them runs.
const laneName = "stream"

// applier is what package apply promises.
type applier interface {
	// Apply makes transactions durable; a part that is not the last stays in an open transaction.
	Apply(ctx context.Context, transactions []wal.Transaction) error
	Idle(ctx context.Context, position migration.LSN) error
	Position() migration.LSN
	Tables() migration.TableCounts
	Stats() apply.Stats
	Close()
}

// Follower runs once. Its other methods may be called from any goroutine, before, while and after it runs.
type Follower struct {
	config Config
	board  *board

	// openApplier is apply.New, but in tests.
	openApplier func(context.Context, ledger.Lane) (applier, error)

	lane      ledger.Lane
	target    *pgx.Conn
	source    control
	expected  slot.Expected
	changes   int64 // applied before this run
	planned   []ledger.Table
	late      map[migration.TableName]migration.TableName // the target's names of tables that came after the plan
	applier   applier
	stream    *stream.Session
	idleAt    time.Time
	beating   chan struct{}
	heartbeat heartbeats
	markers   atomic.Int64
	hurrying  context.Context // ended by Hurry
	hurry     context.CancelFunc

	shapesEvery time.Duration // but in tests a constant
	aheadBytes  int64         // but in tests 0
}

// New opens nothing.
func New(config Config) *Follower {
	f := &Follower{
		config: config, board: newBoard(), beating: make(chan struct{}, 1), shapesEvery: shapesEvery, late: map[migration.TableName]migration.TableName{},
	}
	f.hurrying, f.hurry = context.WithCancel(context.Background())
	f.openApplier = func(ctx context.Context, lane ledger.Lane) (applier, error) {
		return apply.New(ctx, apply.Config{
			Source: config.Source, Target: config.Target, Lane: lane, Spec: config.Spec, Logger: config.Logger,
		})
	}
	return f
}

// Run applies changes until ctx ends, and then returns nil after the batch in hand, within a bound. It takes the lane
// "stream": an earlier attempt's sessions are ended on both servers. Any error is a fault, and every waiting method
// returns it too.
func (f *Follower) Run(ctx context.Context) error {
	err := f.open(ctx)
	defer f.close()
	if err == nil {
		err = f.run(ctx)
	}
	if ctx.Err() != nil {
		err = nil
	}
	f.board.end(err)
	return err
}

// Hold keeps the slot's connection open without reading from it (paused), until ctx ends. It is called instead of Run.
func (f *Follower) Hold(ctx context.Context) error {
	err := f.open(ctx)
	defer f.close()
	if err == nil {
		group, held := errgroup.WithContext(ctx)
		group.Go(func() error { return f.stream.Hold(held) }) // ends with ctx, or the connection
		group.Go(func() error { return f.keepLease(held) })   // ends with ctx, or the lease
		group.Go(func() error { return f.watch(held) })       // ends with ctx, or the slot
		err = group.Wait()
	}
	if ctx.Err() != nil {
		err = nil
	}
	f.board.end(err)
	return err
}

func (f *Follower) run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	applying, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group.Go(func() error { return f.pump(running, applying, stop) }) // ends with ctx, after the batch in hand
	group.Go(func() error { return f.beat(running) })                 // ends with ctx
	group.Go(func() error { return f.watch(running) })                // ends with ctx, or the slot
	group.Go(func() error { return f.watchShapes(running) })          // ends with ctx, or a table that went its own way
	group.Go(func() error {                                           // ends with ctx, or the lease
		err := f.keepLease(running)
		if err != nil {
			stop() // the target is silent, or another's: no batch can be finished
		}
		return err
	})
	return group.Wait()
}

// open takes the lane, checks the source and starts the stream at the progress row.
func (f *Follower) open(ctx context.Context) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	opened, err := f.openApplier(ctx, f.lane)
	if err != nil {
		return f.config.Target.Fault("open the target for", string(f.config.Spec.ID), err)
	}
	f.applier = opened
	f.expected.Applied = f.applier.Position()
	if f.config.FollowFailover {
		if err := f.followFailover(ctx); err != nil {
			return err
		}
	}
	if err := slot.Check(ctx, f.source.conn, f.expected); err != nil {
		return err
	}
	f.stream, err = stream.Open(ctx, stream.Config{
		Source: f.config.Source, ID: f.config.Spec.ID, Session: f.lane.Session(),
		Slot: f.expected.Slot, Publications: f.expected.Publications,
		Start: f.expected.Applied, Version: f.source.version, Recognise: f.expected.Recognise,
		AheadBytes: f.ahead(), Logger: f.config.Logger,
		Held: func(ctx context.Context, durable migration.LSN) error {
			expected := f.expected
			expected.Applied = durable
			return f.source.do(ctx, func(ctx context.Context) error { return slot.Check(ctx, f.source.conn, expected) })
		},
	})
	if err != nil {
		return err
	}
	f.heartbeat.begin(time.Now())
	f.board.opened(f)
	f.config.Logger.Info("following changes", zap.String(migration.KeySlot, f.expected.Slot),
		zap.Stringer(migration.KeyLSN, f.expected.Applied))
	return nil
}

func (f *Follower) followFailover(ctx context.Context) (err error) {
	before := f.expected.Timeline
	f.expected, err = slot.Failover{
		Source: f.config.Source, Conn: f.source.conn, Target: f.target, Lane: f.lane, Logger: f.config.Logger,
	}.Follow(ctx, f.expected)
	if err != nil || f.expected.Timeline == before {
		return err
	}
	recorded, err := ledger.Ledger{ID: f.config.Spec.ID, Conn: f.target}.Read(ctx)
	f.board.remember(recorded.Notes)
	return f.config.Target.Fault("read ledger", string(f.config.Spec.ID), err)
}

func (f *Follower) enter(ctx context.Context) error {
	target, err := f.config.Target.Connect(ctx, f.config.Spec.ID.Session(laneName, 0))
	if err != nil {
		return err
	}
	defer pg.Close(target)
	known := ledger.Ledger{ID: f.config.Spec.ID, Conn: target}
	if f.lane, err = known.Enter(ctx, f.config.Run, laneName); err != nil {
		return f.config.Target.Fault("enter lane", laneName, err)
	}
	if f.target, err = f.config.Target.Connect(ctx, f.lane.Session()); err != nil {
		return err
	}
	if err := f.source.open(ctx, f.config.Source, f.lane); err != nil {
		return err
	}
	known.Conn = f.target
	recorded, err := known.Read(ctx)
	if err != nil {
		return f.config.Target.Fault("read ledger", string(f.config.Spec.ID), err)
	}
	f.changes = recorded.Changes
	f.board.remember(recorded.Notes)
	if f.planned, err = known.Tables(ctx); err != nil {
		return f.config.Target.Fault("read ledger", string(f.config.Spec.ID), err)
	}
	f.expected, err = slot.Expect(ctx, known)
	return f.config.Target.Fault("read ledger", string(f.config.Spec.ID), err)
}

func (f *Follower) close() {
	if f.stream != nil {
		f.stream.Close()
	}
	if f.applier != nil {
		f.applier.Close()
	}
	f.source.close()
	pg.Close(f.target)
}

// control is the session on the source that speaks while the stream runs: heartbeats, markers, the slot's state.
type control struct {
	mu      sync.Mutex
	conn    *pgx.Conn
	server  *pg.Server
	version int
}

func (c *control) open(ctx context.Context, server *pg.Server, lane ledger.Lane) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server = server
	if c.conn, err = server.Connect(ctx, lane.Session()); err != nil {
		return err
	}
	if err = lane.TerminateEarlier(ctx, c.conn); err != nil {
		return server.Fault("end earlier sessions of lane", lane.Name, err)
	}
	c.version, err = pg.Version(ctx, c.conn)
	return server.Fault("read version", "", err)
}

func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	pg.Close(c.conn)
	c.conn = nil
}
