package stream

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// A walsender sends each message by itself, which costs it more than decoding a small change. For a backlog that is a waste:
// pg_logical_slot_get_binary_changes gives the same messages of the same plugin in blocks, in a quarter of the time. But it gives
// whole portions of the log, which it holds in memory or temporary files of the source until they are sent, and it moves
// the slot before anything is durable here. So portions are bounded, and what is read is a copy of the slot that goes with its
// session.
//
// The walsender on the slot itself stays open and unread meanwhile: nobody else can have the slot, the log is kept, and what
// is durable is confirmed as ever.

const (
	// aheadSince is the version from which a slot can be copied.
	aheadSince = 120000
	// aheadMin is how much log must wait for all this to be worth it, and the least that a portion takes.
	aheadMin = 8 << 20
	// aheadAgain is how much log a portion may read again at most: decoding begins where the oldest transaction began that
	// was open. Beyond it, a walsender that goes through the log once is faster.
	aheadAgain = 256 << 20
	// aheadShare is how many times larger a portion is than what it reads again.
	aheadShare = 2

	// firstWithin bounds what a portion holds on the source: it sends nothing before it has decoded everything.
	firstWithin = 10 * time.Second
	// portionWithin bounds its snapshot's life, however slow the target is.
	portionWithin = time.Minute
	// renewShare times what is worth it, 1 GB, may become durable on the target before the walsender is started anew, so that
	// the source can forget that much log: only a slot that moves through it lets go of it.
	renewShare = 128
)

const copySlot = `
select pg_catalog.pg_copy_logical_replication_slot($1, $2, true)`

// copyState also tells whether the slot waits for standbys (from 17). Its copy would not, and a target must not be ahead of those.
const copyState = `
select c.confirmed_flush_lsn::text, c.restart_lsn::text, pg_catalog.pg_current_wal_flush_lsn()::text,
       coalesce((pg_catalog.to_jsonb(s) ->> 'failover')::boolean and pg_catalog.current_setting('synchronized_standby_slots', true) <> '', false)
from pg_catalog.pg_replication_slots c, pg_catalog.pg_replication_slots s where c.slot_name = $1 and s.slot_name = $2`

const readPortion = `
select data from pg_catalog.pg_logical_slot_get_binary_changes($1, $2::text::pg_lsn, null, variadic $3)`

var (
	errHuge    = errors.New("a transaction is larger than a part")
	errLong    = errors.New("a portion took too long to decode")
	errSlow    = errors.New("a portion took too long to apply")
	errWaits   = errors.New("the slot waits for standbys")
	errMoved   = errors.New("the slot has moved beyond the position to start from")
	errFarBack = errors.New("a transaction was open for too much of the log")
)

// ahead reads from the copy.
type ahead struct {
	*Session
	slot     string
	sql      *pgx.Conn
	position migration.LSN // every transaction that commits before it was pushed, or is behind Start
	renewed  migration.LSN // where the walsender was started last
}

// catchUp pushes what waits and lets the walsender go on after it. Whatever keeps it from reading ahead is left to the
// walsender, which meets it again if it matters.
func (s *Session) catchUp(ctx context.Context) error {
	if s.config.Version < aheadSince || s.config.AheadBytes < 0 || s.waits < s.config.AheadBytes {
		return nil
	}
	s.config.Logger.Info("reading a backlog ahead of the slot", zap.Int64("bytes", s.waits))
	began := time.Now()
	a := ahead{Session: s, slot: s.config.ID.SlotAhead(), position: s.config.Start, renewed: s.config.Start}
	err := a.run(ctx)
	pg.Close(a.sql)
	if fault, ok := migration.AsFault(err); ok && fault.Kind == migration.FaultBug || ctx.Err() != nil {
		return err
	}
	s.config.Logger.Info("read ahead of the slot", zap.Stringer(migration.KeyLSN, a.position),
		zap.Duration(migration.KeyElapsed, time.Since(began)), zap.NamedError("because", err))
	if a.position == s.config.Start {
		return nil // the walsender is there
	}
	return a.renew(ctx, a.position)
}

// run returns nil when so little is left that a walsender has it at once.
func (a *ahead) run(ctx context.Context) error {
	at, err := a.open(ctx)
	if err != nil {
		return err
	}
	for int64(at.end-at.confirmed) >= a.config.AheadBytes {
		again := int64(at.confirmed - at.restart)
		if again > aheadAgain {
			return errFarBack
		}
		if err := a.portion(ctx, at.confirmed+migration.LSN(max(a.config.AheadBytes, aheadShare*again))); err != nil {
			return err
		}
		if at, err = a.state(ctx); err != nil {
			return err
		}
		if at.confirmed > a.position { // no transaction in the rest, or at all
			a.position = at.confirmed
			a.queue.pass(a.position, false)
		}
		if durable := migration.LSN(a.pulse.confirmed.Load()); durable > a.renewed+migration.LSN(renewShare*a.config.AheadBytes) {
			a.config.Logger.Info("lets the source forget its log", zap.Stringer(migration.KeyLSN, durable))
			if err := a.renew(ctx, durable); err != nil {
				return err
			}
		}
	}
	return nil
}

// renew starts the walsender anew: before at, it has nothing to send. While the slot is free, an earlier session of the migration may
// take it, which is ended; a later one keeps it.
func (a *ahead) renew(ctx context.Context, at migration.LSN) error {
	config := a.config
	config.Start, a.renewed = at, at
	return a.pulse.renew(func() (*walsender, error) {
		return begin(ctx, config, migration.LSN(a.pulse.confirmed.Load()), config.notLater)
	})
}

// notLater reports whether a session is this one, or one of an earlier entry into the lane: names end in the entry's number.
func (c Config) notLater(session string) bool {
	prefix := c.ID.SessionPrefix("stream")
	own, err := strconv.ParseInt(strings.TrimPrefix(c.Session, prefix), 10, 64)
	if err != nil {
		return session == c.Session
	}
	rest, ours := strings.CutPrefix(session, prefix)
	entry, err := strconv.ParseInt(rest, 10, 64)
	return ours && err == nil && entry <= own
}

// open makes the copy.
func (a *ahead) open(ctx context.Context) (at copied, err error) {
	if a.sql, err = a.config.Source.Connect(ctx, a.config.Session); err != nil {
		return at, err
	}
	if err := a.recognise(ctx); err != nil {
		return at, err
	}
	settings := "set work_mem = '64MB'"
	if a.config.Version >= 130000 {
		settings += ";" + decodingMemory
	}
	if _, err := a.sql.Exec(ctx, settings); err != nil {
		return at, err
	}
	if _, err := a.sql.Exec(ctx, copySlot, a.config.Slot, a.slot); err != nil {
		return at, err
	}
	at, err = a.state(ctx)
	if err == nil && at.confirmed > a.position {
		return at, errMoved
	}
	return at, err
}

// recognise makes sure that it is the walsender's server that answers. Where several hosts are named, it need not be.
func (a *ahead) recognise(ctx context.Context) error {
	system, timeline, err := pg.Identify(ctx, a.sql)
	if err != nil || a.config.Recognise == nil {
		return err
	}
	return a.config.Recognise(system, timeline)
}

// copied is where the copy stands, and the end of the log.
type copied struct{ confirmed, restart, end migration.LSN }

func (a *ahead) state(ctx context.Context) (at copied, err error) {
	var texts [3]string
	var waits bool
	if err := a.sql.QueryRow(ctx, copyState, a.slot, a.config.Slot).Scan(&texts[0], &texts[1], &texts[2], &waits); err != nil {
		return at, err
	}
	if waits {
		return at, errWaits
	}
	for i, to := range []*migration.LSN{&at.confirmed, &at.restart, &at.end} {
		if *to, err = migration.ParseLSN(texts[i]); err != nil {
			return at, err
		}
	}
	raise(&a.sourceEnd, uint64(at.end))
	return at, nil
}

// portion reads to the end of the first transaction that commits at upto or later. When it fails, position is after the last
// transaction that was pushed.
func (a *ahead) portion(ctx context.Context, upto migration.LSN) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	first := time.AfterFunc(firstWithin, func() { cancel(errLong) })
	defer first.Stop()
	defer time.AfterFunc(portionWithin, func() { cancel(errSlow) }).Stop()
	rows, _ := a.sql.Query(ctx, readPortion, pgx.QueryResultFormats{pgx.BinaryFormatCode}, a.slot, upto.String(), options(a.config))
	defer rows.Close() // which has the error, too
	decoder := wal.NewDecoder(a.config.BudgetBytes / parts)
	for rows.Next() {
		first.Stop()
		if err := a.push(ctx, decoder, rows.RawValues()[0]); err != nil {
			cancel(err) // what is not read yet is not worth reading
			return context.Cause(ctx)
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return rows.Err()
}

func (a *ahead) push(ctx context.Context, decoder *wal.Decoder, message []byte) error {
	tx, err := a.decode(decoder, message)
	switch {
	case err != nil:
		return err
	case tx == nil, tx.Commit < a.config.Start: // as a walsender leaves out what commits before it starts
		return nil
	case !tx.First || !tx.Last:
		return errHuge // part by part, it could not be left to the walsender any more
	}
	if err := a.queue.push(ctx, *tx); err != nil {
		return err
	}
	a.position = tx.End
	raise(&a.pulse.received, uint64(tx.End))
	return nil
}
