package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/wal"
)

const (
	// sendBytes is how much gathers before the server gets to work on it.
	sendBytes = 256 << 10
	// unreadBytes is how much is sent before results are read: the first failure is noticed no later.
	unreadBytes = 32 << 20
	// preparedMax bounds what the session's plans take on the server.
	preparedMax = 2000
)

// pipeline sends statements without waiting for their results. Any failure makes the server skip the rest.
type pipeline struct {
	conn    *pgconn.PgConn
	open    *pgconn.Pipeline
	pending []pending
	unsent  int
	unread  int
	names   int
	named   []*prepared
	scratch []byte
	// carried is the count of statements whose counts belong to the next one.
	carried int64
}

// pending is a result to come.
type pending struct {
	table   *table
	kind    kind
	prepare *prepared // the result is that of preparing it
	close   bool      // the result is that of giving one back
	expect  int64     // rows, or uncounted
	carry   bool      // the count belongs to the next statement's
	ours    bool      // a statement on the ledger: a wrong count means that this writer has lost its place
}

// misfit is a statement that failed, or hit another number of rows than it must.
type misfit struct {
	table *table
	kind  kind
	ours  bool
	hit   int64
	err   error // nil when only the count was wrong
}

func (m *misfit) Error() string {
	if m.err != nil {
		return m.err.Error()
	}
	return fmt.Sprintf("%s hit %d rows", m.kind, m.hit)
}

func (m *misfit) Unwrap() error { return m.err }

func newPipeline(conn *pgx.Conn) *pipeline { return &pipeline{conn: conn.PgConn()} }

func (p *pipeline) start(ctx context.Context) *pgconn.Pipeline {
	if p.open == nil {
		p.open = p.conn.StartPipeline(ctx)
	}
	return p.open
}

// plain queues a statement without parameters or result.
func (p *pipeline) plain(ctx context.Context, sql string) {
	p.start(ctx).SendQueryParams(sql, nil, nil, nil, nil)
	p.pending = append(p.pending, pending{expect: uncounted, ours: true})
}

// ledger queues a statement on the ledger.
func (p *pipeline) ledger(ctx context.Context, s ledger.Statement) {
	p.start(ctx).SendQueryParams(s.SQL, s.Args, nil, nil, nil)
	p.pending = append(p.pending, pending{expect: s.Rows, ours: true})
}

// rows queues a statement on rows of a table.
func (p *pipeline) rows(ctx context.Context, a action, s *prepared, rows []rowChange, expect int64, carry bool) error {
	open := p.start(ctx)
	if s.name == "" {
		p.prepare(open, a, s)
	}
	values, err := p.encode(s, rows)
	if err != nil {
		return err
	}
	formats := []int16{pgx.BinaryFormatCode}
	if s.scalars {
		formats = []int16{pgx.TextFormatCode}
	}
	open.SendQueryPrepared(s.name, values, formats, nil)
	p.pending = append(p.pending, pending{table: a.table, kind: a.kind, expect: expect, carry: carry})
	p.unsent += len(p.scratch)
	p.unread += len(p.scratch)
	if p.unread >= unreadBytes {
		return p.flush(ctx)
	}
	if p.unsent >= sendBytes {
		p.unsent = 0
		return open.Flush()
	}
	return nil
}

func (p *pipeline) prepare(open *pgconn.Pipeline, a action, s *prepared) {
	if len(p.named) >= preparedMax {
		p.evict(open)
	}
	p.names++
	s.name = fmt.Sprintf("pgdts_%d", p.names)
	p.named = append(p.named, s)
	oids := make([]uint32, len(s.at)+len(s.image))
	for i := range oids {
		oids[i] = oidText
		if !s.scalars {
			oids[i] = arrayOf[s.sent[i]]
		}
	}
	open.SendPrepare(s.name, s.sql, oids)
	p.pending = append(p.pending, pending{table: a.table, kind: a.kind, prepare: s})
}

// evict gives all prepared statements back: which of them come again is not known.
func (p *pipeline) evict(open *pgconn.Pipeline) {
	for _, s := range p.named {
		if s.name != "" {
			open.SendDeallocate(s.name)
			p.pending = append(p.pending, pending{close: true})
		}
		s.name = ""
	}
	p.named = p.named[:0]
}

// encode makes one parameter per column. The parameters are valid until the next call.
func (p *pipeline) encode(s *prepared, rows []rowChange) ([][]byte, error) {
	type span struct{ from, to int }
	spans := make([]span, 0, len(s.at)+len(s.image))
	p.scratch = p.scratch[:0]
	if s.scalars {
		values := make([][]byte, 0, cap(spans))
		for _, column := range s.at {
			values = append(values, scalar(rows[0].at[column]))
		}
		for _, column := range s.image {
			values = append(values, scalar(rows[0].image[column]))
		}
		for _, value := range values {
			p.unsent += len(value)
			p.unread += len(value)
		}
		return values, nil
	}
	for n, column := range slices.Concat(s.at, s.image) {
		from := len(p.scratch)
		var err error
		if p.scratch, err = appendArray(p.scratch, rows, column, n >= len(s.at), s.sent[n]); err != nil {
			return nil, err
		}
		spans = append(spans, span{from, len(p.scratch)})
	}
	values := make([][]byte, len(spans))
	for i, s := range spans {
		values[i] = p.scratch[s.from:s.to:s.to]
	}
	return values, nil
}

func scalar(v wal.Value) []byte {
	if v.Kind == wal.Null {
		return nil
	}
	if v.Data == nil {
		return []byte{}
	}
	return v.Data
}

// flush waits for all results. The error is the first failure, as a misfit when the server or a count says so.
func (p *pipeline) flush(ctx context.Context) error {
	_, err := p.count(ctx)
	return err
}

// count is flush, and tells how many rows the last statement hit.
func (p *pipeline) count(ctx context.Context) (int64, error) {
	if p.open == nil {
		return 0, ctx.Err()
	}
	open := p.open
	defer p.clear()
	if err := open.Sync(); err != nil {
		_ = open.Close()
		return 0, err
	}
	var firstErr error
	var hit int64
	for i := range p.pending {
		n, err := p.result(open, &p.pending[i])
		hit = n
		if err == nil {
			continue
		}
		if firstErr == nil {
			firstErr = err
		}
		if failed := (*misfit)(nil); !errors.As(err, &failed) || failed.err != nil {
			p.forget(i)
			break
		}
	}
	if err := open.Close(); firstErr == nil && err != nil {
		firstErr = err
	}
	return hit, firstErr
}

func (p *pipeline) result(open *pgconn.Pipeline, expected *pending) (int64, error) {
	results, err := open.GetResults()
	if err == nil && (expected.prepare != nil || expected.close) {
		return 0, nil
	}
	reader, ok := results.(*pgconn.ResultReader)
	if err == nil && !ok {
		return 0, fmt.Errorf("pipeline: unexpected result %T", results)
	}
	var hit int64
	if err == nil {
		tag, closeErr := reader.Close()
		hit, err = tag.RowsAffected(), closeErr
	}
	if err != nil {
		if pg.SQLState(err) == "" {
			return 0, err
		}
		return 0, &misfit{table: expected.table, kind: expected.kind, ours: expected.ours, err: err}
	}
	if expected.carry {
		p.carried += hit
		return hit, nil
	}
	hit += p.carried
	p.carried = 0
	if expected.expect != uncounted && hit != expected.expect {
		return hit, &misfit{table: expected.table, kind: expected.kind, ours: expected.ours, hit: hit}
	}
	return hit, nil
}

// forget takes back the names of statements that were not prepared because of an earlier failure.
func (p *pipeline) forget(from int) {
	for _, left := range p.pending[from:] {
		if left.prepare != nil {
			left.prepare.name = ""
		}
	}
}

func (p *pipeline) clear() {
	p.open, p.unsent, p.unread, p.carried = nil, 0, 0, 0
	clear(p.pending)
	p.pending = p.pending[:0]
	if cap(p.scratch) > unreadBytes {
		p.scratch = nil
	}
}
