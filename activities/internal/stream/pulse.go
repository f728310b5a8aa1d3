package stream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/workflows/migration"
)

// pulse tells the source how far we are. It writes only, so that it works while the reader waits.
type pulse struct {
	conn     *pgconn.PgConn
	interval time.Duration

	received  atomic.Uint64
	confirmed atomic.Uint64
	told      atomic.Uint64

	wake   chan struct{} // there is something new to tell
	urgent chan struct{} // the source asked

	sending sync.Mutex
}

// newsMin is the least time between two reports that the source did not ask for.
const newsMin = time.Second

func newPulse(conn *pgconn.PgConn, start migration.LSN, interval time.Duration) *pulse {
	p := &pulse{conn: conn, interval: interval, wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1)}
	p.received.Store(uint64(start))
	p.confirmed.Store(uint64(start))
	return p
}

func (p *pulse) confirm(position migration.LSN) {
	if raise(&p.confirmed, uint64(position)) {
		signal(p.wake)
	}
}

// raise reports whether value was above what was there.
func raise(to *atomic.Uint64, value uint64) bool {
	for {
		old := to.Load()
		if value <= old {
			return false
		}
		if to.CompareAndSwap(old, value) {
			return true
		}
	}
}

// run reports until ctx ends: when asked, within a second of news, and at every interval.
func (p *pulse) run(ctx context.Context) error {
	regular := time.NewTicker(p.interval)
	defer regular.Stop()
	news := time.NewTimer(0)
	defer news.Stop()
	<-news.C
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
			news.Reset(max(0, newsMin-time.Since(last)))
			continue
		case <-p.urgent:
		case <-regular.C:
		case <-news.C:
		}
		if err := p.send(); err != nil {
			return err
		}
		last = time.Now()
	}
}

// sendWithin is longer than any network that works needs for 34 bytes.
const sendWithin = 10 * time.Second

// send reports what is confirmed as written, flushed and applied: nothing that we hold in memory is worth more.
func (p *pulse) send() error {
	p.sending.Lock()
	defer p.sending.Unlock()
	confirmed := p.confirmed.Load()
	received := max(p.received.Load(), confirmed)
	if err := p.conn.Conn().SetWriteDeadline(time.Now().Add(sendWithin)); err != nil {
		return err
	}
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), p.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: pglogrepl.LSN(received),
		WALFlushPosition: pglogrepl.LSN(confirmed),
		WALApplyPosition: pglogrepl.LSN(confirmed),
	})
	if err == nil {
		raise(&p.told, confirmed)
	}
	return err
}
