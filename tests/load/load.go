package load

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Schema creates the tables that Operations write to, with a few rows.
//
//go:embed schema.sql
var Schema string

// Operation is one write inside a transaction. An error of the server rolls back to the savepoint before it.
type Operation func(ctx context.Context, tx pgx.Tx, r *rand.Rand) error

// Config is who writes what.
type Config struct {
	URI        string
	Clients    int
	Operations []Operation
	Seed       uint64
	// Pause between two transactions of a client; default 2 ms.
	Pause time.Duration
	// Persist lets a client that was refused by a fence try again, as an application would; else it ends.
	Persist bool
	// Prepared lets some transactions be prepared first and committed a moment later.
	Prepared bool
}

// Load is a running set of clients.
type Load struct {
	config  Config
	cancel  context.CancelFunc
	wait    sync.WaitGroup
	mu      sync.Mutex
	outcome Outcome
}

// Outcome is what the clients know when they have stopped.
type Outcome struct {
	Acknowledged map[int][]int64 // by client: numbers whose commit the server confirmed
	RolledBack   map[int][]int64
	Unknown      map[int][]int64 // the connection broke in COMMIT
	LastCommit   time.Time
	FirstRefused time.Time // first write refused by a fence, and none was accepted since
	LongestWait  time.Duration
	Errors       []error // of other kinds than conflicts among the clients
}

// Start lets the clients write until Stop, or until each is refused by the fence.
func Start(ctx context.Context, config Config) *Load {
	if config.Pause == 0 {
		config.Pause = 2 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{config: config, cancel: cancel, outcome: Outcome{
		Acknowledged: map[int][]int64{}, RolledBack: map[int][]int64{}, Unknown: map[int][]int64{},
	}}
	for i := range config.Clients {
		l.wait.Go(func() {
			c := &client{Load: l, id: i, random: rand.New(rand.NewPCG(config.Seed, uint64(i)))}
			c.run(ctx)
		})
	}
	return l
}

// Stop ends the clients after their transaction in hand and returns what they know.
func (l *Load) Stop() Outcome {
	l.cancel()
	return l.Wait()
}

// Wait returns when every client has ended: refused by a fence, or stopped.
func (l *Load) Wait() Outcome {
	l.wait.Wait()
	return l.outcome
}

// Commits is how many transactions were acknowledged so far.
func (l *Load) Commits() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, seqs := range l.outcome.Acknowledged {
		n += len(seqs)
	}
	return n
}

type client struct {
	*Load
	id     int
	seq    int64
	random *rand.Rand
	// prepared is the transaction whose end this client does not know yet.
	prepared string
}

// errRefused ends a client: the source's tables refuse writes.
var errRefused = errors.New("refused by the fence")

func (c *client) run(ctx context.Context) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.Background())
		}
	}()
	// A stopped client still settles what it has prepared, if the server lets it within a few seconds.
	for last := 100; ctx.Err() == nil || c.prepared != "" && last > 0; {
		if ctx.Err() != nil {
			last--
			time.Sleep(50 * time.Millisecond)
		}
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = c.connect(context.WithoutCancel(ctx)); err != nil {
				conn = nil
				pause(ctx, 50*time.Millisecond)
				continue
			}
		}
		started := time.Now()
		err := c.transaction(context.WithoutCancel(ctx), conn)
		c.mu.Lock()
		c.outcome.LongestWait = max(c.outcome.LongestWait, time.Since(started))
		c.mu.Unlock()
		if errors.Is(err, errRefused) && !c.config.Persist {
			return
		}
		pause(ctx, time.Duration(c.random.Int64N(int64(2*c.config.Pause))))
	}
}

// connect also settles a transaction that was prepared when the connection broke: left alone, it would hold its locks
// for ever.
func (c *client) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, c.config.URI)
	if err != nil || c.prepared == "" {
		return conn, err
	}
	_, err = conn.Exec(ctx, "commit prepared '"+c.prepared+"'")
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		c.record(c.outcome.Acknowledged)
	case errors.As(err, &pgErr) && pgErr.Code == "42704":
		c.record(c.outcome.Unknown) // committed before the answer was lost, or never prepared
	default:
		_ = conn.Close(ctx)
		return nil, err
	}
	c.prepared = ""
	return conn, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// transaction runs a few operations, each under a savepoint, and ends in one of the ways transactions end.
func (c *client) transaction(ctx context.Context, conn *pgx.Conn) error {
	c.seq++
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, "insert into load.audit (client, seq) values ($1, $2)", c.id, c.seq); err != nil {
		return c.failed(err)
	}
	for range 1 + c.random.IntN(4) {
		if err := c.operate(ctx, tx); err != nil {
			return c.failed(err)
		}
	}
	switch {
	case c.random.IntN(15) == 0:
		c.record(c.outcome.RolledBack)
		return tx.Rollback(ctx)
	case c.config.Prepared && c.random.IntN(10) == 0:
		return c.commitPrepared(ctx, conn)
	}
	return c.commit(tx.Commit(ctx))
}

func (c *client) operate(ctx context.Context, tx pgx.Tx) error {
	nested, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	op := c.config.Operations[c.random.IntN(len(c.config.Operations))]
	err = op(ctx, nested, c.random)
	var pgErr *pgconn.PgError
	switch {
	case err == nil && c.random.IntN(6) > 0:
		return nested.Commit(ctx)
	case err == nil || errors.As(err, &pgErr) && conflict(pgErr.Code):
		return nested.Rollback(ctx)
	}
	return err
}

// conflict tells what concurrent writers do to each other and what ends only the savepoint.
func conflict(code string) bool { return code == "23505" || code == "23503" || code == "23P01" }

func (c *client) commitPrepared(ctx context.Context, conn *pgx.Conn) error {
	c.prepared = fmt.Sprintf("load-%d-%d-%d", c.config.Seed, c.id, c.seq)
	_, err := conn.Exec(ctx, "prepare transaction '"+c.prepared+"'")
	if err == nil {
		time.Sleep(time.Duration(c.random.IntN(20)) * time.Millisecond)
		_, err = conn.Exec(ctx, "commit prepared '"+c.prepared+"'")
	}
	var pgErr *pgconn.PgError
	if err != nil && (!errors.As(err, &pgErr) || strings.HasPrefix(pgErr.Code, "57P")) {
		_ = conn.Close(ctx)
		return err // connect finds out what became of it
	}
	c.prepared = ""
	return c.commit(err)
}

func (c *client) commit(err error) error {
	if err == nil {
		c.record(c.outcome.Acknowledged)
		c.mu.Lock()
		c.outcome.LastCommit, c.outcome.FirstRefused = time.Now(), time.Time{}
		c.mu.Unlock()
		return nil
	}
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		c.record(c.outcome.Unknown)
	}
	return c.failed(err)
}

func (c *client) record(in map[int][]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in[c.id] = append(in[c.id], c.seq)
}

// failed sorts an error: a fence ends the client, a deadlock or a lost connection ends the transaction, anything else
// is remembered.
func (c *client) failed(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch pgErr.Code {
	case "25006":
		if c.outcome.FirstRefused.IsZero() {
			c.outcome.FirstRefused = time.Now()
		}
		return errRefused
	case "40P01", "57P01", "57P03", "40001", "23505":
	default:
		c.outcome.Errors = append(c.outcome.Errors, err)
	}
	return err
}
