package compare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/mapping"
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
	MethodSubset Method = "subset" // every value, of rows that the target may have others beside; the method of a verdict only
)

const (
	// parallelMax bounds the sessions on each side.
	parallelMax = 16
	// hashRate is what one core hashes in a second, as long as nothing is measured.
	hashRate = 200 << 20
	// lookupCost is how many times longer it takes to look for every row by its key than to hash both sides.
	lookupCost = 5
)

// Config says what to compare.
type Config struct {
	Source, Target *pg.Server
	// Session is the application_name of all sessions.
	Session string
	// ID is whose notes of kept rows count.
	ID     migration.ID
	Tables []mapping.Table
	Method Method
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
// a difference is a verdict, not an error. What is asked is what the definition promises: rows that it leaves out are left
// out, values that it changes are changed. A table of which nothing can be compared has a verdict too, by the method none.
// Errors are faults of the server that failed.
func Verify(ctx context.Context, config Config) ([]migration.Verdict, error) {
	if config.Method == MethodNone || len(config.Tables) == 0 {
		return nil, nil
	}
	if config.Parallel <= 0 {
		config.Parallel = runtime.NumCPU()
	}
	config.Parallel = min(config.Parallel, parallelMax, len(config.Tables))
	v := &verification{Config: config, verdicts: make([]migration.Verdict, len(config.Tables)), began: time.Now()}
	if err := v.describe(ctx); err != nil {
		return nil, err
	}
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
	shapes   []shape // of the target's tables
	verdicts []migration.Verdict

	mu    sync.Mutex
	queue []int // indexes of tables that nobody has taken
	done  int
	bytes int64         // of tables hashed
	spent time.Duration // by all workers on hashing them
}

// order queues what can be compared.
func (v *verification) order() {
	for i, table := range v.Tables {
		promise, reason := PromiseOf(table)
		if promise == Nothing {
			v.verdicts[i] = migration.Verdict{Table: table.Name.String(), Equal: true, Method: string(MethodNone), Reason: reason}
			v.done++
			continue
		}
		v.queue = append(v.queue, i)
	}
	slices.SortStableFunc(v.queue, func(a, b int) int { return cmp.Compare(v.cost(b), v.cost(a)) })
}

// cost is how many bytes take as long to hash as it takes to compare a table.
func (v *verification) cost(table int) int64 {
	if promise, _ := PromiseOf(v.Tables[table]); promise == Subset {
		return v.Tables[table].Bytes * lookupCost
	}
	return v.Tables[table].Bytes
}

// take hands out the next table and says whether it is to be hashed.
func (v *verification) take() (table int, hash, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.queue) == 0 {
		return 0, false, false
	}
	table, v.queue = v.queue[0], v.queue[1:]
	return table, v.hashFits(v.cost(table)), true
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
	if verdict.Method != string(MethodCounts) {
		v.bytes += v.cost(table)
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
		verdict, err := v.compare(ctx, &p, v.job(table), hash)
		if err != nil {
			return err
		}
		v.finished(table, verdict, time.Since(began))
	}
}

// job is one table and what both sides are asked about it.
type job struct {
	id             migration.ID
	table          mapping.Table
	promise        Promise
	shape          shape
	source, target rows
}

func (v *verification) job(i int) job {
	j := job{id: v.ID, table: v.Tables[i], shape: v.shapes[i]}
	j.promise, _ = PromiseOf(j.table)
	j.source, j.target = sides(j.table, j.shape)
	return j
}

// compare falls back to counting when the budget ends in the middle of a table.
func (v *verification) compare(ctx context.Context, p *pair, j job, hash bool) (migration.Verdict, error) {
	if err := p.open(ctx, v.Config); err != nil {
		return migration.Verdict{}, err
	}
	if !hash {
		return p.count(ctx, j)
	}
	if v.Method != MethodAuto || v.Budget == 0 {
		return p.rows(ctx, ctx, j)
	}
	bounded, cancel := context.WithTimeout(ctx, v.remaining())
	defer cancel()
	verdict, err := p.rows(bounded, ctx, j)
	if err == nil || ctx.Err() != nil || !errors.Is(bounded.Err(), context.DeadlineExceeded) {
		return verdict, err
	}
	if err := p.open(ctx, v.Config); err != nil {
		return migration.Verdict{}, err
	}
	return p.count(ctx, j)
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

// rows compares every value, of tables that must be equal by adding up, of others row by row.
func (p *pair) rows(ctx, fenced context.Context, j job) (migration.Verdict, error) {
	if j.promise == Subset {
		return p.lookup(ctx, fenced, j)
	}
	source, target, err := p.ask(ctx, fenced, j, p.dialect.sum)
	return verdict(j, MethodHash, source, target, source == target), err
}

func verdict(j job, method Method, source, target answer, equal bool) migration.Verdict {
	return migration.Verdict{
		Table: j.table.Name.String(), Equal: equal, SourceRows: source.rows, TargetRows: target.rows, Method: string(method),
	}
}

const countKept = `select count(*) from dts_sync.kept where migration = $1 and relid = $2`

// count compares numbers of rows. A table that may have others must have as many as the source has moved.
func (p *pair) count(ctx context.Context, j job) (migration.Verdict, error) {
	source, target, err := p.ask(ctx, ctx, j, count)
	if err != nil || j.promise == Equal {
		return verdict(j, MethodCounts, source, target, source == target), err
	}
	var kept int64
	if j.table.Keep {
		if err := p.target.QueryRow(ctx, countKept, j.id, j.table.OID).Scan(&kept); err != nil {
			return migration.Verdict{}, pg.Fault(migration.Target, "count kept rows of", j.target.title, err)
		}
	}
	counted := verdict(j, MethodCounts, source, target, target.rows >= source.rows-kept)
	counted.Kept = kept
	return counted, nil
}

func (p *pair) lookup(ctx, fenced context.Context, j job) (migration.Verdict, error) {
	l := &lookup{job: j, dialect: p.dialect, conn: p.target}
	sourceErr, targetErr := l.run(ctx, p.source)
	if pg.SQLState(sourceErr) == "55P03" && p.holder != nil {
		if err := p.holder(fenced, func(conn *pgx.Conn) error {
			sourceErr, targetErr = l.run(fenced, conn)
			return nil
		}); err != nil {
			return migration.Verdict{}, err
		}
	}
	if sourceErr != nil {
		return migration.Verdict{}, pg.Fault(migration.Source, "compare", j.source.title, sourceErr)
	}
	l.verdict.Table, l.verdict.Method = j.table.Name.String(), string(MethodSubset)
	return l.verdict, pg.Fault(migration.Target, "compare", j.target.title, targetErr)
}

// ask puts a question to both sides at once. fenced bounds what runs in the fence's own session.
func (p *pair) ask(
	ctx, fenced context.Context, j job, question func(context.Context, *pgx.Conn, rows) (answer, error),
) (source, target answer, err error) {
	group, asking := errgroup.WithContext(ctx)
	group.Go(func() (err error) { // ends with the query
		source, err = question(asking, p.source, j.source)
		if pg.SQLState(err) == "55P03" && p.holder != nil {
			err = p.holder(fenced, func(conn *pgx.Conn) error {
				source, err = question(fenced, conn, j.source)
				return err
			})
		}
		return pg.Fault(migration.Source, "compare", j.source.title, err)
	})
	group.Go(func() (err error) { // ends with the query
		target, err = question(asking, p.target, j.target)
		return pg.Fault(migration.Target, "compare", j.target.title, err)
	})
	return source, target, group.Wait()
}

// MethodOf is what a set of verdicts amounts to: hash only when every table was compared by its values or copied again,
// but for those of which nothing can be compared.
func MethodOf(verdicts []migration.Verdict) Method {
	method := MethodNone
	for _, verdict := range verdicts {
		switch verdict.Method {
		case string(MethodCounts):
			return MethodCounts
		case string(MethodNone):
		default:
			method = MethodHash
		}
	}
	return method
}
