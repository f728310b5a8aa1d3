package throttle

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// slice is how much of a rate is taken at once: what a process that dies has taken in vain.
	slice = 100 * time.Millisecond
	// burst is how far ahead of the rate anybody may be, so that late wake-ups do not cost throughput.
	burst = 300 * time.Millisecond
	// keepFor is how long what was taken and not used may be used.
	keepFor = time.Second
	// lookEvery is how soon a changed rate is seen, by those who wait too.
	lookEvery = 500 * time.Millisecond
	// idleEvery is how soon a rate is seen where there was none.
	idleEvery = time.Second
	// againAfter is the pause after the ledger did not answer, answerWithin the time it has for that.
	againAfter   = time.Second
	answerWithin = 10 * time.Second
	// rowBytes stands for the size of rows of which none was seen.
	rowBytes = 200
)

// Meter is the gate of one process. Rates, and what all processes were given, are in the ledger. Where the ledger does not
// answer, throttled callers wait: nothing can be written to the target then anyway.
type Meter struct {
	target *pg.Server
	id     migration.ID
	kind   migration.Type
	logger *zap.Logger

	rates  atomic.Pointer[ledger.Flow]
	rows   atomic.Int64 // that have passed, with their bytes
	bytes  atomic.Int64
	flow   pool
	asking pool // apart from rows and bytes, so that a query that waits for its turn does not stop a COPY

	session chan *pgx.Conn // holds one; nil = not open
	stop    context.CancelFunc
	stopped chan struct{}
}

// pool is what was taken from the ledger and not used yet. Who holds turn has it.
type pool struct {
	turn   chan struct{}
	credit ledger.Flow
	taken  time.Time
}

func newMeter(ctx context.Context, target *pg.Server, id migration.ID, kind migration.Type, logger *zap.Logger) (*Meter, error) {
	m := &Meter{
		target: target, id: id, kind: kind, logger: logger, stopped: make(chan struct{}), session: make(chan *pgx.Conn, 1),
		flow: pool{turn: make(chan struct{}, 1)}, asking: pool{turn: make(chan struct{}, 1)},
	}
	m.session <- nil
	if _, err := m.read(ctx); err != nil {
		pg.Close(<-m.session)
		return nil, err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	go m.watch(watching) // ends with close
	return m, nil
}

func (m *Meter) close() {
	m.stop()
	<-m.stopped
	pg.Close(<-m.session)
}

// watch keeps the rates known, so that callers do not ask for them. A ledger that does not answer leaves them as they are.
func (m *Meter) watch(ctx context.Context) {
	defer close(m.stopped)
	for sleep(ctx, idleEvery) == nil {
		if _, err := m.read(ctx); err != nil && ctx.Err() == nil {
			m.logger.Debug("rates were not read", zap.Error(err))
		}
	}
}

// Query waits until one more statement may read rows from the source.
func (m *Meter) Query(ctx context.Context) error {
	return m.take(ctx, &m.asking, ledger.Flow{ledger.Queries: 1})
}

// Pass waits until so many rows and bytes more may go by.
func (m *Meter) Pass(ctx context.Context, rows, bytes int64) error {
	m.rows.Add(rows)
	m.bytes.Add(bytes)
	return m.take(ctx, &m.flow, ledger.Flow{ledger.Rows: float64(rows), ledger.Bytes: float64(bytes)})
}

// BytesPerSecond is the cap at present, that on rows included: as so many bytes as the rows had that have passed.
func (m *Meter) BytesPerSecond() float64 {
	rates := m.rates.Load()
	limit, byRows := rates[ledger.Bytes], rates[ledger.Rows]*rowBytes
	if rows := m.rows.Load(); rows > 0 {
		byRows = rates[ledger.Rows] * max(1, float64(m.bytes.Load())/float64(rows))
	}
	if byRows > 0 && (limit <= 0 || byRows < limit) {
		return byRows
	}
	return limit
}

// RowsPerSecond is the cap on rows at present; 0 = none.
func (m *Meter) RowsPerSecond() float64 { return m.rates.Load()[ledger.Rows] }

// Portion is what passes within a slice at the present rates.
func (m *Meter) Portion(rows, bytes int64) int64 {
	rates, portion := m.rates.Load(), float64(bytes)
	if rate := rates[ledger.Bytes]; rate > 0 {
		portion = min(portion, rate*slice.Seconds())
	}
	if rate := rates[ledger.Rows]; rate > 0 && rows > 0 {
		portion = min(portion, max(1, rate*slice.Seconds())*float64(bytes)/float64(rows))
	}
	return min(bytes, max(1, int64(math.Ceil(portion))))
}

// take waits for its turn, and takes slices until the amount is there.
func (m *Meter) take(ctx context.Context, p *pool, amount ledger.Flow) error {
	if !m.rates.Load().Capped(amount) {
		return ctx.Err()
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.turn }()
	if time.Since(p.taken) > keepFor {
		p.credit = ledger.Flow{}
	}
	for {
		rates := m.rates.Load()
		var asked ledger.Flow
		for i := range amount {
			portion := max(1, rates[i]*slice.Seconds())
			p.credit[i] = min(p.credit[i], portion+amount[i]) // what was a slice of a higher rate is more than one now
			if rates[i] > 0 && p.credit[i] < amount[i] {
				asked[i] = portion
			}
		}
		if asked == (ledger.Flow{}) {
			for i := range amount {
				p.credit[i] = max(0, p.credit[i]-amount[i])
			}
			return nil
		}
		if err := m.lease(ctx, asked); err != nil {
			return err
		}
		for i := range asked {
			p.credit[i] += asked[i]
		}
		p.taken = time.Now()
	}
}

// lease takes an amount and waits until it is allowed.
func (m *Meter) lease(ctx context.Context, asked ledger.Flow) error {
	pace, err := m.insist(ctx, func(l ledger.Ledger, ctx context.Context) (ledger.Pace, error) { return l.Take(ctx, m.kind, asked) })
	marks := pace.Granted
	for err == nil {
		wait := pace.Wait(asked, marks, burst)
		if wait <= 0 {
			return nil
		}
		if err = sleep(ctx, min(wait, lookEvery)); err != nil || wait <= lookEvery {
			return err
		}
		pace, err = m.insist(ctx, func(l ledger.Ledger, ctx context.Context) (ledger.Pace, error) { return l.ReadPace(ctx, m.kind) })
	}
	return err
}

// insist asks the ledger until it answers or ctx ends.
func (m *Meter) insist(ctx context.Context, question func(ledger.Ledger, context.Context) (ledger.Pace, error)) (ledger.Pace, error) {
	for {
		pace, err := m.ask(ctx, question)
		if err == nil {
			return pace, nil
		}
		if ctx.Err() != nil {
			return pace, ctx.Err()
		}
		m.logger.Warn("throttled work waits for the ledger", zap.Error(err))
		if err := sleep(ctx, againAfter); err != nil {
			return pace, err
		}
	}
}

func (m *Meter) read(ctx context.Context) (ledger.Pace, error) {
	return m.ask(ctx, func(l ledger.Ledger, ctx context.Context) (ledger.Pace, error) { return l.ReadPace(ctx, m.kind) })
}

// ask runs one short statement on the meter's session, alone. The end of a caller does not cost the others the session.
func (m *Meter) ask(ctx context.Context, question func(ledger.Ledger, context.Context) (ledger.Pace, error)) (ledger.Pace, error) {
	var conn *pgx.Conn
	select {
	case conn = <-m.session:
	case <-ctx.Done():
		return ledger.Pace{}, ctx.Err()
	}
	defer func() { m.session <- conn }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	defer cancel()
	if conn == nil || conn.IsClosed() {
		opened, err := m.open(ctx)
		if err != nil {
			return ledger.Pace{}, err
		}
		conn = opened
	}
	pace, err := question(ledger.Ledger{ID: m.id, Conn: conn}, ctx)
	if err != nil {
		return pace, m.target.Fault("read the rates of", string(m.id), err)
	}
	m.rates.Store(&pace.Rates)
	return pace, nil
}

// open connects. What was taken may be lost with the target: it would be taken again.
func (m *Meter) open(ctx context.Context) (*pgx.Conn, error) {
	conn, err := m.target.Connect(ctx, m.id.Session("throttle", 0))
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "set synchronous_commit = off"); err != nil {
		pg.Close(conn)
		return nil, m.target.Fault("set up session", "", err)
	}
	return conn, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
