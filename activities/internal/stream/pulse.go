package stream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/pgdts/pgdts/workflows/migration"
)

// pulse tells the source how far we are. It writes only, so that it works while the reader waits.
type pulse struct {
	interval time.Duration

	received  atomic.Uint64
	confirmed atomic.Uint64
	told      atomic.Uint64

	wake   chan struct{} // there is something new to tell
	urgent chan struct{} // the source asked

	sending sync.Mutex
	to      *walsender
}

// newsMin is the least time between two reports that the source did not ask for.
const newsMin = time.Second

func newPulse(to *walsender, start migration.LSN) *pulse {
	p := &pulse{to: to, interval: to.interval, wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1)}
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

func (p *pulse) send() error {
	p.sending.Lock()
	defer p.sending.Unlock()
	return p.tell()
}

// tell reports what is confirmed as written, flushed and applied: nothing that we hold in memory is worth more.
func (p *pulse) tell() error {
	confirmed := p.confirmed.Load()
	received := max(p.received.Load(), confirmed)
	if err := p.to.Conn().SetWriteDeadline(time.Now().Add(sendWithin)); err != nil {
		return err
	}
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), p.to.PgConn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: pglogrepl.LSN(received),
		WALFlushPosition: pglogrepl.LSN(confirmed),
		WALApplyPosition: pglogrepl.LSN(confirmed),
	})
	if err == nil {
		raise(&p.told, confirmed)
	}
	return err
}

func (p *pulse) walsender() *walsender {
	p.sending.Lock()
	defer p.sending.Unlock()
	return p.to
}

// renew puts another walsender in the place of the one that it ends.
func (p *pulse) renew(begin func() (*walsender, error)) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.finish()
	next, err := begin()
	if err == nil {
		p.to = next
	}
	return err
}

func (p *pulse) end() {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.finish()
}

// finish tells the last position and ends the stream in order, so that the slot is free.
func (p *pulse) finish() {
	if p.to.IsClosed() {
		return
	}
	_ = p.to.Conn().SetDeadline(time.Now().Add(closeWithin))
	if err := p.tell(); err == nil {
		p.to.end()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	_ = p.to.Close(ctx)
}
