package precheck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// While tables are copied nobody reads the slot, so that the source keeps all the WAL it writes meanwhile: its rate times
// the duration of the copy.

// sampleMin is how far apart two readings of the WAL's position must be to say something.
const sampleMin = 2 * time.Second

// mark is the WAL's position at a moment of this process.
type mark struct {
	bytes float64
	at    time.Time
}

// readPosition gives nothing on a standby, which writes none.
const readPosition = `
select case when pg_is_in_recovery() then 0 else pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') end::float8`

func (s session) mark(ctx context.Context) (mark, error) {
	bytes, err := value[float64](ctx, s, readPosition)
	return mark{bytes, time.Now()}, err
}

// readMeanRate is bytes per second since the statistics were reset, which are kept since 14.
const readMeanRate = `
select coalesce(wal_bytes::float8 / nullif(extract(epoch from clock_timestamp() - stats_reset)::float8, 0), 0)
from pg_stat_wal where clock_timestamp() - stats_reset > interval '1 minute'`

// walRate is how much the source writes: now, or on the whole where that is more.
type walRate struct {
	now, mean float64 // bytes per second
	over      time.Duration
}

func (r walRate) most() float64 { return max(r.now, r.mean) }

func (r walRate) String() string {
	text := fmt.Sprintf("%s/s in the last %s", size(int64(r.now)), r.over.Round(time.Second/10))
	if r.mean > 0 {
		text += fmt.Sprintf(", %s/s on the whole", size(int64(r.mean)))
	}
	return text
}

// readWALRate takes the second reading of the position, at least so long after the first.
func (l *look) readWALRate(ctx context.Context, apart time.Duration) (walRate, error) {
	select {
	case <-ctx.Done():
		return walRate{}, ctx.Err()
	case <-time.After(apart - time.Since(l.begun.at)):
	}
	if l.begun.at.IsZero() {
		return walRate{}, errors.New("the first reading of the WAL's position is lacking")
	}
	end, err := l.source.mark(ctx)
	if err != nil {
		return walRate{}, err
	}
	over := end.at.Sub(l.begun.at)
	rate := walRate{now: max(0, end.bytes-l.begun.bytes) / max(over.Seconds(), 0.001), over: over}
	if l.source.version < 140000 {
		return rate, nil
	}
	means, err := rows[struct{ Rate float64 }](ctx, l.source, readMeanRate)
	if len(means) > 0 {
		rate.mean = means[0].Rate
	}
	return rate, err
}

const (
	// copyRate is assumed of each connection: what a server of two cores takes, rows and indexes together. A network or
	// disks may be slower, which no look at a server tells.
	copyRate = 20 << 20
	// copyConnectionsMax: beyond, disks decide.
	copyConnectionsMax = 8
)

// estimate is how long the copy takes.
type estimate struct {
	rows, indexes int64 // bytes
	tables        int
	rate          int64 // bytes per second
	why           string
	time          time.Duration
}

const readIndexBytes = `
select coalesce(sum(pg_indexes_size(w.oid)), 0)::bigint from unnest($1::oid[]) w (oid)`

func (l *look) readEstimate(ctx context.Context) (estimate, error) {
	tables, err := l.tables()
	if err != nil {
		return estimate{}, err
	}
	e := estimate{rows: totalBytes(tables), tables: len(tables)}
	if e.indexes, err = value[int64](ctx, l.source, readIndexBytes, oids(tables)); err != nil {
		return estimate{}, err
	}
	connections := int64(min(copyConnections(l.Spec), copyConnectionsMax))
	e.rate = connections * copyRate
	e.why = fmt.Sprintf("assumed: %s/s for each of %s", size(copyRate), count(int(connections), "connection"))
	full := l.Spec.Throttle.Full
	if limit := int64(full.MegabytesPerSecond * 1e6); limit > 0 && limit < e.rate {
		e.rate, e.why = limit, "throttle.full.megabytesPerSecond"
	}
	e.time = time.Duration(float64(e.rows+e.indexes) / float64(e.rate) * float64(time.Second))
	if full.RowsPerSecond > 0 {
		if byRows := seconds(float64(totalRows(tables)) / full.RowsPerSecond); byRows > e.time {
			e.time, e.why = byRows, "throttle.full.rowsPerSecond"
			e.rate = int64(float64(e.rows+e.indexes) / max(byRows.Seconds(), 1))
		}
	}
	return e, nil
}

func totalRows(tables []mapping.Table) int64 {
	var sum int64
	for _, table := range tables {
		sum += table.Rows
	}
	return sum
}

// copyLong is when a person should know before.
const copyLong = time.Hour

// copyEstimate tells how long the copy may take.
func copyEstimate(_ context.Context, l *look) (finding, error) {
	e, err := l.facts.estimate()
	if err != nil {
		return finding{}, err
	}
	found := fmt.Sprintf("%s of rows and %s of indexes in %s: about %s at %s/s (%s)", size(e.rows), size(e.indexes),
		count(e.tables, "table"), rounded(e.time), size(e.rate), e.why)
	if e.time < copyLong {
		return passed("%s", found), nil
	}
	return notice("", "%s", found), nil
}

func rounded(d time.Duration) time.Duration {
	if d < time.Minute {
		return max(d.Round(time.Second), time.Second)
	}
	return d.Round(time.Minute)
}

const (
	// roomMin holds the WAL of a small database's checkpoints and vacuums.
	roomMin = 1 << 30
	// roomSafety: the copy may take longer than was estimated, and the night's jobs write more than the day's.
	roomSafety = 3
	// walRateMax is more than servers write in a second.
	walRateMax = 1 << 30
)

// slotRoom: a slot that wants more than max_slot_wal_keep_size is lost; without that limit the disk may fill up.
func slotRoom(ctx context.Context, l *look) (finding, error) {
	e, err := l.facts.estimate()
	if err != nil {
		return finding{}, err
	}
	apart := sampleMin
	if e.time.Seconds()*walRateMax*roomSafety < roomMin {
		apart = 0 // whatever it writes, it is little
	}
	rate, err := l.readWALRate(ctx, apart)
	if err != nil {
		return finding{}, err
	}
	written := int64(rate.most() * e.time.Seconds())
	needed := max(written*roomSafety, roomMin)
	forecast := fmt.Sprintf("%s of WAL (the source writes %s, and the copy takes about %s)", size(written), rate, rounded(e.time))
	limit := int64(-1) // megabytes
	if l.source.version >= 130000 {
		if limit, err = value[int64](ctx, l.source, "select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size'"); err != nil {
			return finding{}, err
		}
	}
	switch room := limit << 20; {
	case limit < 0 && written < roomMin:
		return passed("the slot keeps about %s on the source's disk, without limit", forecast), nil
	case limit < 0:
		return notice("", "the slot keeps about %s on the source's disk, without limit: see that it has %s free, which nobody can ask by SQL",
			forecast, size(needed)), nil
	case room >= needed:
		return passed("the source keeps up to %s for a slot, and this one needs about %s", size(room), forecast), nil
	default:
		fix, err := l.source.setting(ctx, "max_slot_wal_keep_size", fmt.Sprint(needed>>20+1), false)
		return alert(fix, "the source keeps at most %s of WAL for a slot (max_slot_wal_keep_size), and %s is safe for about %s: "+
			"if it is too little, the slot is lost and the migration begins anew", size(room), size(needed), forecast), err
	}
}

func copyConnections(spec migration.Spec) int {
	return cmp.Or(spec.Parallel.Copy, max(2, runtime.NumCPU()))
}
