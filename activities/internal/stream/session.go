package stream

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Config says what to read and from where.
type Config struct {
	Source *pg.Server
	// ID is the migration; sessions of its stream lane that still hold the slot are ended.
	ID migration.ID
	// Session is the application_name.
	Session      string
	Slot         string
	Publications []string
	// Start is the progress row's end_lsn. Never 0: the server would begin where it was last told, unchecked.
	Start migration.LSN
	// Version is the source's server_version_num.
	Version int
	// Recognise, if not nil, refuses the server that answered. Where several hosts are named, it may be another one than a
	// moment ago.
	Recognise func(system string, timeline int) error
	// Held, if not nil, is asked when nobody else can move the slot any more and the source was not told a position yet:
	// older servers would move a slot back to it that is ahead, and hide that changes are gone. We have told the source that
	// everything before durable is.
	Held func(ctx context.Context, durable migration.LSN) error
	// BudgetBytes bounds what is decoded and not yet taken; 0 = 64 MB.
	BudgetBytes int
	// AheadBytes is how much log must wait to be read ahead of the slot; 0 = 8 MB, less than 0 = it never is.
	AheadBytes int64
	// Logger may be nil.
	Logger *zap.Logger
}

const (
	budgetDefault = 64 << 20
	// parts is how many parts of a huge transaction fit into the queue.
	parts = 8
)

// Session is an open stream. Next is for one goroutine; the other methods may be called from any.
type Session struct {
	config Config
	waits  int64 // how much log, when the stream began
	queue  *queue
	pulse  *pulse

	group   *errgroup.Group
	ctx     context.Context
	cancel  context.CancelFunc
	reading sync.Once

	given     time.Time // when Next gave its last batch
	sourceEnd atomic.Uint64
	inHand    atomic.Int64 // commit time of the oldest transaction of the batch that Next gave last, in nanoseconds
}

// Open starts replication. The slot must be ours alone: an earlier session of this migration that holds it is ended. It
// fails as slot-lost when the slot is missing or invalidated. Nothing is read before the first Next.
func Open(ctx context.Context, config Config) (*Session, error) {
	if config.Start == 0 {
		return nil, migration.Faultf(migration.FaultBug, "start replication from", config.Slot, "no position to start from")
	}
	if config.BudgetBytes == 0 {
		config.BudgetBytes = budgetDefault
	}
	if config.AheadBytes == 0 {
		config.AheadBytes = aheadMin
	}
	if config.Logger == nil {
		config.Logger = zap.NewNop()
	}
	sender, err := begin(ctx, config, config.Start, func(session string) bool {
		return strings.HasPrefix(session, config.ID.SessionPrefix("stream"))
	})
	if err != nil {
		return nil, err
	}
	s := &Session{config: config, waits: int64(sender.flushed - config.Start), queue: newQueue(config.BudgetBytes)}
	s.pulse = newPulse(sender, config.Start)
	s.sourceEnd.Store(uint64(config.Start))
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.group, s.ctx = errgroup.WithContext(s.ctx)
	// Ends with Close, or when a write fails.
	s.group.Go(func() error { return s.fail(s.pulse.run(s.ctx)) })
	return s, nil
}

// Limits bound one batch.
type Limits struct {
	Changes int
	Bytes   int
	// Wait is how long Next waits for the first transaction.
	Wait time.Duration
}

// Batch is what Next gives: whole transactions in commit order, or one part of a huge transaction, or an idle position,
// or nothing when the wait was over.
type Batch struct {
	Transactions []wal.Transaction
	// Idle is a position before which every transaction was given by Next. It may be recorded once those are durable.
	Idle migration.LSN
	// Asked: the source waits for our answer about Idle. One that shuts down in order waits until it is confirmed.
	Asked bool
}

const (
	// gatherShare times what the batch before took is how long transactions gather.
	gatherShare = 3
	gatherMax   = 100 * time.Millisecond
)

// Next waits for the next batch. An error is final, and comes only after everything that arrived before it.
//
// Each batch has its price, however small it is. Taking what has just arrived would let a target that is behind stay
// behind: many small batches leave the walsender no time to send more. So transactions gather for as long as the batch
// before was at work, some times over, unless the source says that there are no more: under load batches grow until the
// price does not count, and a single transaction does not wait.
func (s *Session) Next(ctx context.Context, limits Limits) (Batch, error) {
	// Ends with Close, or when the source ends the stream.
	s.reading.Do(func() { s.group.Go(func() error { return s.fail(s.read(s.ctx)) }) })
	s.inHand.Store(0)
	timer := time.NewTimer(limits.Wait)
	defer timer.Stop()
	gathering := time.NewTimer(min(gatherMax, gatherShare*time.Since(s.given)))
	defer gathering.Stop()
	defer func() { s.given = time.Now() }()
	for {
		if s.gather(ctx, limits, gathering.C) != nil {
			return Batch{}, ctx.Err()
		}
		batch, err := s.queue.take(limits)
		if err != nil || batch.Idle != 0 {
			return batch, err
		}
		if len(batch.Transactions) > 0 {
			s.inHand.Store(batch.Transactions[0].Time.UnixNano())
			return batch, nil
		}
		select {
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		case <-timer.C:
			return Batch{}, nil
		case <-s.queue.filled:
		}
	}
}

// gather waits while that is worth it.
func (s *Session) gather(ctx context.Context, limits Limits, over <-chan time.Time) error {
	for s.queue.gather(limits) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			return nil
		case <-s.queue.filled:
		}
	}
	return nil
}

// Confirm tells the source that everything before position is durable on the target: it may forget the log up to there.
// The caller must have recorded position first. A position behind the last is ignored. The source hears of it within a
// second.
func (s *Session) Confirm(position migration.LSN) { s.pulse.confirm(position) }

// Confirmed is the newest position that the source was told.
func (s *Session) Confirmed() migration.LSN { return migration.LSN(s.pulse.told.Load()) }

// SourceEnd is the newest position of the source that it has told us.
func (s *Session) SourceEnd() migration.LSN { return migration.LSN(s.sourceEnd.Load()) }

// OldestPending is the source's commit time of the oldest transaction that was received and for which Next has not been
// called again; zero when there is none.
func (s *Session) OldestPending() time.Time {
	if at := s.inHand.Load(); at != 0 {
		return time.Unix(0, at)
	}
	if tx := s.queue.pending(); tx != nil {
		return tx.Time
	}
	return time.Time{}
}

// Hold keeps the connection without reading from it, until ctx ends (nil) or the connection does. It is called instead
// of Next.
func (s *Session) Hold(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.ctx.Done():
		_, err := s.queue.take(Limits{})
		return err
	}
}

// closeWithin is what a polite end may take; then the socket is closed, and the server finds out by itself.
const closeWithin = 2 * time.Second

// Close tells the source the last confirmed position and ends the stream in order, so that the slot is free when it
// returns. A second call does nothing.
func (s *Session) Close() {
	s.cancel()
	// The reader waits in a read that knows no context.
	_ = s.pulse.walsender().Conn().SetReadDeadline(time.Unix(1, 0))
	_ = s.group.Wait() // The error was given to Next.
	s.pulse.end()
}

// fail makes an error the last thing that Next gives.
func (s *Session) fail(err error) error {
	if err != nil && s.ctx.Err() == nil {
		s.queue.fail(s.fault(err))
	}
	return err
}

// fault names what ends a stream. The server says "does not exist" (42704) when a publication went missing, and "not in
// prerequisite state" (55000) when the slot can serve no more.
func (s *Session) fault(err error) error {
	if fault, ok := migration.AsFault(err); ok {
		return fault
	}
	switch pg.SQLState(err) {
	case "42704":
		return lost(s.config.Slot, err, "something the stream needs was dropped on the source: check publications "+
			strings.Join(s.config.Publications, ", ")+" and slot "+s.config.Slot)
	case "55000":
		return lost(s.config.Slot, err, "the slot can serve no more changes; start the migration anew (`pgdts stop`, then `pgdts run --again`)")
	case "54000", "XX000": // a limit is exceeded, and how servers refuse to allocate more than 1 GB
		return s.tooLong(err)
	}
	return s.config.Source.Fault("read changes from slot", s.config.Slot, err)
}

const hintTooLong = "PostgreSQL sends no row whose text is longer than 1 GB, where bytea counts twice; if that is what it says, " +
	"the row cannot be followed: make it smaller, or leave its column out (`columns.exclude`), and start the migration anew"

// tooLong says what such an error most often means: the server names neither row nor table.
func (s *Session) tooLong(err error) error {
	fault, ok := migration.AsFault(s.config.Source.Fault("read changes from slot", s.config.Slot, err))
	if ok && fault.Hint == "" {
		fault.Hint = hintTooLong
	}
	return fault
}

func lost(slot string, err error, hint string) *migration.Fault {
	fault := migration.NewFault(migration.FaultSlotLost, "read changes from slot", slot, err, hint)
	fault.Side, fault.SQLState = migration.Source, pg.SQLState(err)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		fault.Message = pgErr.Message
	}
	return fault
}

// options are the plugin's, names and values in turn, by what the server's version knows. Messages carry the marker; streaming
// of open transactions stays off, so that transactions arrive whole and in commit order.
func options(config Config) []string {
	names := migration.QuoteList(config.Publications)
	if config.Version < 140000 {
		return []string{"proto_version", "1", "publication_names", names}
	}
	return []string{"proto_version", "2", "publication_names", names, "messages", "true"}
}
