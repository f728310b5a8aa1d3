package ledger

import (
	"context"
	_ "embed"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

//go:embed throttle.sql
var throttleTable string

// Flow is an amount of queries, rows and bytes, or so much per second.
type Flow [3]float64

// The parts of a Flow.
const (
	Queries = iota
	Rows
	Bytes
)

// Capped reports whether any part of what is asked for has a rate.
func (rates Flow) Capped(asked Flow) bool {
	for i := range rates {
		if rates[i] > 0 && asked[i] > 0 {
			return true
		}
	}
	return false
}

// Pace is how much may have passed when the server was asked, and what was granted before whoever asked.
type Pace struct {
	Rates, Allowed, Granted Flow
}

// Wait is how long it takes until the granted parts of asked are allowed, with so much of a rate as a burst. A rate that was
// changed in between changes the wait, not the amount.
func (p Pace) Wait(asked, marks Flow, burst time.Duration) time.Duration {
	var wait float64
	for i := range p.Rates {
		if p.Rates[i] > 0 && asked[i] > 0 {
			wait = max(wait, (marks[i]-p.Allowed[i])/p.Rates[i]-burst.Seconds())
		}
	}
	return time.Duration(min(wait, time.Hour.Seconds()) * float64(time.Second))
}

const readPace = `
select rates, array(select a + r * extract(epoch from clock_timestamp() - since)::float8 from unnest(allowed, rates) with ordinality as x (a, r, n) order by n), granted
from dts_sync.throttle where migration = $1 and kind = $2`

// ReadPace reads the rates of a kind. Without any, all is zero: nothing is capped.
func (l Ledger) ReadPace(ctx context.Context, kind migration.Type) (Pace, error) {
	return scanPace(l.Conn.QueryRow(ctx, readPace, l.ID, kind))
}

// takeFlow grants after what others were given, but never from the past: what nobody used is gone. The clock is read once the
// row is ours.
const takeFlow = `
update dts_sync.throttle set granted = array(
    select case when r > 0 and want > 0 then greatest(g, a + r * extract(epoch from clock_timestamp() - since)::float8) + want else g end
    from unnest(granted, allowed, rates, $3::float8[]) with ordinality as x (g, a, r, want, n) order by n)
where migration = $1 and kind = $2
returning rates, array(select a + r * extract(epoch from clock_timestamp() - since)::float8 from unnest(allowed, rates) with ordinality as x (a, r, n) order by n), granted`

// Take grants an amount: it is the caller's once Pace.Wait, asked with the marks that this returned as Granted, is over. A caller
// that dies before costs the others that amount and no more. It is one short statement of its own, which is not guarded:
// what a late caller takes harms nobody but by that amount.
func (l Ledger) Take(ctx context.Context, kind migration.Type, asked Flow) (Pace, error) {
	return scanPace(l.Conn.QueryRow(ctx, takeFlow, l.ID, kind, asked[:]))
}

func scanPace(row pgx.Row) (Pace, error) {
	var rates, allowed, granted []float64
	err := row.Scan(&rates, &allowed, &granted)
	if errors.Is(err, pgx.ErrNoRows) || pg.SQLState(err) == undefinedTable {
		return Pace{}, nil // a migration that began before there were rates
	}
	var p Pace
	copy(p.Rates[:], rates)
	copy(p.Allowed[:], allowed)
	copy(p.Granted[:], granted)
	return p, err
}

const undefinedTable = "42P01"

// setPace keeps what lanes were granted and have not used yet, now at the new rate; where one of the rates is none they go at
// once, and nothing is owed.
const setPace = `
insert into dts_sync.throttle as t (migration, kind, rates, allowed, granted, since)
values ($1, $2, $3::float8[], '{0,0,0}', '{0,0,0}', clock_timestamp())
on conflict (migration, kind) do update set
    rates = excluded.rates, since = excluded.since,
    allowed = array(select a + r * extract(epoch from excluded.since - t.since)::float8
        from unnest(t.allowed, t.rates) with ordinality as x (a, r, n) order by n),
    granted = array(select case when r > 0 and s > 0 then g else least(g, a + r * extract(epoch from excluded.since - t.since)::float8) end
        from unnest(t.granted, t.allowed, t.rates, excluded.rates) with ordinality as x (g, a, r, s, n) order by n)
where t.rates <> excluded.rates`

// SetThrottle records the rates that hold from now on. Whoever is throttled sees them within a second. A second call with the
// same rates changes nothing.
func (l Ledger) SetThrottle(ctx context.Context, t migration.Throttle) error {
	if _, err := l.Conn.Exec(ctx, throttleTable); err != nil { // a migration that began before there were rates
		return err
	}
	const megabyte = 1e6
	full := Flow{t.Full.QueriesPerSecond, t.Full.RowsPerSecond, t.Full.MegabytesPerSecond * megabyte}
	incremental := Flow{0, t.Incremental.RowsPerSecond, t.Incremental.MegabytesPerSecond * megabyte}
	return pgx.BeginFunc(ctx, l.Conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setPace, l.ID, migration.TypeFull, full[:]); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, setPace, l.ID, migration.TypeIncremental, incremental[:])
		return err
	})
}
