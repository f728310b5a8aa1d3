package cutover

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// pingEvery keeps the session that holds the locks alive.
	pingEvery = time.Second
	// silenceMax is how long the source waits for a ping before it ends the session: a frozen process must not keep the
	// application's writers waiting.
	silenceMax = 15 * time.Second
)

// fence is the session whose transaction holds the locks. Its zero value, and nil, hold nothing.
type fence struct {
	source *pg.Server
	lost   context.CancelCauseFunc
	tables []relation
	// prepared: an administrator's functions lock and close the tables, see PreparedFence.
	prepared bool

	mu      sync.Mutex
	conn    *pgx.Conn
	made    bool // something is recorded, and may have been made, that outlives the session
	stop    context.CancelFunc
	pinging sync.WaitGroup
}

func (f *fence) connect(ctx context.Context, session string) (err error) {
	f.conn, err = f.source.Connect(ctx, session)
	return err
}

func (f *fence) pid() uint32 { return f.conn.PgConn().PID() }

// lock begins the transaction and takes the locks by a statement, or fails and leaves the transaction to be rolled back.
func (f *fence) lock(ctx context.Context, statement string, timeout time.Duration) error {
	if statement == "" {
		_, err := f.conn.Exec(ctx, "begin")
		return err
	}
	begin := fmt.Sprintf("begin; set local lock_timeout = %d; set local statement_timeout = %d; set local idle_in_transaction_session_timeout = %d",
		timeout.Milliseconds(), lockBudget.Milliseconds(), silenceMax.Milliseconds())
	if _, err := f.conn.Exec(ctx, begin); err != nil {
		return err
	}
	if _, err := f.conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	// What follows must not give way any more.
	_, err := f.conn.Exec(ctx, "set local statement_timeout = 0; set local lock_timeout = 0")
	return err
}

const endFence = `
select count(pg_terminate_backend(pid)) from pg_stat_activity where pid = $1 and application_name = $2`

// end ends the fence's session on the server and waits until it is gone, so that what it has made is there to be seen: a
// commit that waits for a dead standby becomes visible only with the end of its session. The session that looks does not
// wait for that standby.
func (f *fence) end(ctx context.Context, source *pgx.Conn) error {
	if _, err := source.Exec(ctx, "set synchronous_commit = local"); err != nil || f.conn == nil {
		return err
	}
	for {
		var alive int
		err := source.QueryRow(ctx, endFence, f.pid(), f.conn.Config().RuntimeParams["application_name"]).Scan(&alive)
		if err != nil || alive == 0 {
			return err
		}
		if !pause(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func (f *fence) rollback(ctx context.Context) error {
	_, err := f.conn.Exec(ctx, "rollback")
	return f.source.Fault("roll back", "", err)
}

// keep pings the session until it is closed, and gives everything up when it has ended.
func (f *fence) keep(ctx context.Context) {
	ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	f.pinging.Go(func() { // ends with close, or with the session
		for pause(ctx, pingEvery) {
			if err := f.exec(context.WithoutCancel(ctx), "select 1"); err != nil {
				f.lost(migration.NewFault(migration.FaultConnection, "hold the fence on", f.source.Database(), errFenceLost, ""))
				return
			}
		}
	})
}

// exec runs short statements in the fence's transaction. It is safe beside the pings.
func (f *fence) exec(ctx context.Context, sql string) error {
	return f.do(ctx, func(conn *pgx.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, silenceMax)
		defer cancel()
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		return err
	})
}

// do runs work in the fence's transaction, which alone never waits behind somebody who waits for the fence.
func (f *fence) do(ctx context.Context, work func(*pgx.Conn) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return work(f.conn)
}

// holder is do, or nil where no session holds locks.
func (f *fence) holder() func(context.Context, func(*pgx.Conn) error) error {
	if f.conn == nil {
		return nil
	}
	return f.do
}

// close ends the session; locks that it holds go, and what it has not committed.
func (f *fence) close() {
	if f == nil || f.conn == nil {
		return
	}
	if f.stop != nil {
		f.stop()
		f.pinging.Wait()
	}
	pg.Close(f.conn)
}

// recorded reports whether something may refuse writes when the session has ended.
func (f *fence) recorded() bool { return f != nil && f.made }
