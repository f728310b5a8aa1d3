package compare

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Method is how tables are compared.
type Method string

// The methods.
const (
	MethodAuto   Method = "auto"   // by hash as far as the time allows, the rest by count
	MethodHash   Method = "hash"   // every value
	MethodCounts Method = "counts" // the number of rows
	MethodNone   Method = "none"   // not at all
)

const (
	// parallelMax bounds the sessions on each side.
	parallelMax = 16
	// hashRate is what one core hashes in a second, as long as nothing is measured.
	hashRate = 200 << 20
)

// Config says what to compare.
type Config struct {
	Source, Target *pg.Server
	// Session is the application_name of all sessions.
	Session string
	Tables  []catalog.Table
	Method  Method
	// Parallel is how many tables are compared at once; 0 = by the number of cores, at most 16.
	Parallel int
	// Budget is how long hashing may take with MethodAuto; 0 = without a bound.
	Budget time.Duration
	// Holder, if set, runs work in the session of the source that holds the fence's locks. Whoever wants a table for
	// himself (TRUNCATE, ALTER TABLE) waits for the fence, and every new reader waits behind him; the session that has its
	// lock does not. ctx of work must not be bounded by less than the fence: a query cut off ends it.
	Holder func(ctx context.Context, work func(*pgx.Conn) error) error
	// Report, if set, is told how many tables are done.
	Report func(done, total int)
}

// Verify compares the tables, several at once, largest first. It returns a verdict on each, in the order of the config;
// a difference is a verdict, not an error. Errors are faults of the server that failed.
func Verify(ctx context.Context, config Config) ([]migration.Verdict, error) {
	if config.Method == MethodNone || len(config.Tables) == 0 {
		return nil, nil
	}
	if config.Parallel <= 0 {
		config.Parallel = runtime.NumCPU()
	}
	config.Parallel = min(config.Parallel, parallelMax, len(config.Tables))
	v := &verification{Config: config, verdicts: make([]migration.Verdict, len(config.Tables)), began: time.Now()}
	v.order()
	group, working := errgroup.WithContext(ctx)
	for range config.Parallel {
		group.Go(func() error { return v.work(working) }) // ends when no table is left
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return v.verdicts, nil
}

type verification struct {
	Config
	began    time.Time
	verdicts []migration.Verdict

	mu    sync.Mutex
	queue []int // indexes of tables that nobody has taken
	left  int64 // bytes of them
	done  int
	bytes int64         // of tables hashed
	spent time.Duration // by all workers on hashing them
}

func (v *verification) order() {
	for i, table := range v.Tables {
		v.queue = append(v.queue, i)
		v.left += table.Bytes
	}
	slices.SortStableFunc(v.queue, func(a, b int) int { return int(min(1, max(-1, v.Tables[b].Bytes-v.Tables[a].Bytes))) })
}

// take hands out the next table and says whether it is to be hashed.
func (v *verification) take() (table int, hash, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.queue) == 0 {
		return 0, false, false
	}
	table, v.queue = v.queue[0], v.queue[1:]
	v.left -= v.Tables[table].Bytes
	return table, v.hashFits(v.Tables[table].Bytes), true
}

// hashFits compares what is left of the budget with what this table alone takes, at the speed measured so far.
func (v *verification) hashFits(bytes int64) bool {
	if v.Method != MethodAuto || v.Budget == 0 {
		return v.Method != MethodCounts
	}
	rate := float64(hashRate)
	if v.spent > 100*time.Millisecond && v.bytes > 0 {
		rate = float64(v.bytes) / v.spent.Seconds()
	}
	return float64(bytes)/rate < v.remaining().Seconds()
}

func (v *verification) remaining() time.Duration { return v.Budget - time.Since(v.began) }

func (v *verification) finished(table int, verdict migration.Verdict, took time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.verdicts[table] = verdict
	v.done++
	if verdict.Method == string(MethodHash) {
		v.bytes += v.Tables[table].Bytes
		v.spent += took
	}
	if v.Report != nil {
		v.Report(v.done, len(v.Tables))
	}
}

func (v *verification) work(ctx context.Context) error {
	var p pair
	defer p.close()
	for {
		table, hash, ok := v.take()
		if !ok {
			return nil
		}
		began := time.Now()
		verdict, err := v.compare(ctx, &p, v.Tables[table], hash)
		if err != nil {
			return err
		}
		v.finished(table, verdict, time.Since(began))
	}
}

// compare falls back to counting when the budget ends in the middle of a table.
func (v *verification) compare(ctx context.Context, p *pair, table catalog.Table, hash bool) (migration.Verdict, error) {
	if err := p.open(ctx, v.Config); err != nil {
		return migration.Verdict{}, err
	}
	if !hash {
		return p.compare(ctx, ctx, table, MethodCounts)
	}
	if v.Method != MethodAuto || v.Budget == 0 {
		return p.compare(ctx, ctx, table, MethodHash)
	}
	bounded, cancel := context.WithTimeout(ctx, v.remaining())
	defer cancel()
	verdict, err := p.compare(bounded, ctx, table, MethodHash)
	if err == nil || ctx.Err() != nil || !errors.Is(bounded.Err(), context.DeadlineExceeded) {
		return verdict, err
	}
	if err := p.open(ctx, v.Config); err != nil {
		return migration.Verdict{}, err
	}
	return p.compare(ctx, ctx, table, MethodCounts)
}

// lockWait is how long a table is waited for before the holder is asked.
const lockWait = 200 * time.Millisecond

// pair is one session on each side.
type pair struct {
	source, target *pgx.Conn
	dialect        Dialect
	holder         func(context.Context, func(*pgx.Conn) error) error
}

// open makes the sessions where there are none: a query whose time ran out has cost its session.
func (p *pair) open(ctx context.Context, config Config) error {
	if p.source != nil && p.target != nil && !p.source.IsClosed() && !p.target.IsClosed() {
		return nil
	}
	p.close()
	var err error
	if p.source, err = config.Source.Connect(ctx, config.Session); err != nil {
		return err
	}
	if p.target, err = config.Target.Connect(ctx, config.Session); err != nil {
		return err
	}
	if p.holder = config.Holder; p.holder != nil {
		if _, err := p.source.Exec(ctx, fmt.Sprintf("set lock_timeout = %d", lockWait.Milliseconds())); err != nil {
			return config.Source.Fault("prepare", "session", err)
		}
	}
	p.dialect, err = Agree(ctx, p.source, p.target)
	return err
}

func (p *pair) close() {
	pg.Close(p.source)
	pg.Close(p.target)
	p.source, p.target = nil, nil
}

type answer struct {
	rows int64
	sum  string
}

// compare asks both sides at once. fenced bounds what runs in the fence's own session.
func (p *pair) compare(ctx, fenced context.Context, table catalog.Table, method Method) (migration.Verdict, error) {
	var source, target answer
	group, asking := errgroup.WithContext(ctx)
	group.Go(func() (err error) { // ends with the query
		source, err = p.ask(asking, p.source, table, method)
		if pg.SQLState(err) == "55P03" && p.holder != nil {
			err = p.holder(fenced, func(conn *pgx.Conn) error {
				source, err = p.ask(fenced, conn, table, method)
				return err
			})
		}
		return pg.Fault(migration.Source, "compare", table.Name.String(), err)
	})
	group.Go(func() (err error) { // ends with the query
		target, err = p.ask(asking, p.target, table, method)
		return pg.Fault(migration.Target, "compare", table.Name.String(), err)
	})
	if err := group.Wait(); err != nil {
		return migration.Verdict{}, err
	}
	return migration.Verdict{
		Table: table.Name.String(), Equal: source == target,
		SourceRows: source.rows, TargetRows: target.rows, Method: string(method),
	}, nil
}

func (p *pair) ask(ctx context.Context, conn *pgx.Conn, table catalog.Table, method Method) (a answer, err error) {
	if method == MethodHash {
		a.rows, a.sum, err = p.dialect.Hash(ctx, conn, table, Columns(table))
		return a, err
	}
	a.rows, err = Count(ctx, conn, table)
	return a, err
}

// MethodOf is what a set of verdicts amounts to: hash only when every table was compared by hash or copied again.
func MethodOf(verdicts []migration.Verdict) Method {
	method := MethodNone
	for _, verdict := range verdicts {
		switch verdict.Method {
		case string(MethodCounts):
			return MethodCounts
		default:
			method = MethodHash
		}
	}
	return method
}
