package apply_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Tables of every kind of key: text under ICU with a TOASTed column and a unique one whose index the target gets only
// after the band, numeric with an identity column that cannot be set, full identity with and without key.
const bandTables = `
create table t (k text collate "und-x-icu" primary key, n int, u int, big text);
alter table t alter big set storage external;
create table n (k numeric primary key, id int generated always as identity, v int, big text);
alter table n alter big set storage external;
create table f (k int primary key, v int, big text);
alter table f alter big set storage external;
alter table f replica identity full;
create table d (x int, v int);
alter table d replica identity full`

const bandKeys = 100

type writer struct {
	*rand.Rand
	conn *pgx.Conn
	name string
}

func (w *writer) big() string {
	return strings.Repeat(string(rune('a'+w.IntN(26))), 2100+w.IntN(500))
}

func (w *writer) text() string {
	return fmt.Sprintf("%c-%02d", []rune("aBcDé")[w.IntN(5)], w.IntN(bandKeys/5))
}

func (w *writer) number() string {
	return fmt.Sprintf("%d.%s", w.IntN(bandKeys), strings.Repeat("0", 1+w.IntN(3)))
}

// statement is any change of any table.
func (w *writer) statement() (string, []any) {
	n, key, to := w.IntN(1_000_000), w.text(), w.text()
	switch w.IntN(24) {
	case 0, 1, 2:
		return "insert into t values ($1, $2, $3, $4)", []any{key, n, w.IntN(300), w.big()}
	case 3, 4:
		return "update t set n = $2 where k = $1", []any{key, n}
	case 5:
		return "update t set n = $2, big = $3 where k = $1", []any{key, n, w.big()}
	case 6:
		return "update t set u = $2 where k = $1", []any{key, w.IntN(300)}
	case 7, 8, 9:
		return "update t set k = $2 where k = $1", []any{key, to}
	case 10, 11:
		return "delete from t where k = $1", []any{key}
	case 12, 13:
		return "insert into n (k, v, big) values ($1, $2, $3)", []any{w.number(), n, w.big()}
	case 14:
		return "update n set v = $2 where k = $1", []any{w.number(), n}
	case 15:
		return "update n set k = $2 where k = $1", []any{w.number(), w.number()}
	case 16:
		return "update n set id = default where k = $1", []any{w.number()}
	case 17:
		return "delete from n where k = $1", []any{w.number()}
	case 18:
		return "insert into f values ($1, $2, $3)", []any{w.IntN(bandKeys), n, w.big()}
	case 19:
		return "update f set k = $2, v = $3 where k = $1", []any{w.IntN(bandKeys), w.IntN(bandKeys), n}
	case 20:
		return "delete from f where k = $1", []any{w.IntN(bandKeys)}
	case 21:
		return "insert into d values ($1, $2), ($1, $2)", []any{w.IntN(10), w.IntN(3)}
	case 22:
		return "update d set v = $2 where ctid = (select min(ctid) from d where x = $1)", []any{w.IntN(10), w.IntN(3)}
	}
	return "delete from d where ctid = (select max(ctid) from d where x = $1)", []any{w.IntN(10)}
}

// transaction makes a few changes, some of which it takes back, and ends in any way there is.
func (w *writer) transaction(ctx context.Context, number int) error {
	if _, err := w.conn.Exec(ctx, "begin"); err != nil {
		return err
	}
	for range 1 + w.IntN(4) {
		if err := w.change(ctx); pg.SQLState(err) == "40P01" {
			_, err := w.conn.Exec(ctx, "rollback")
			return err
		} else if err != nil {
			return err
		}
	}
	w.wait(ctx, 3, 12)
	switch w.IntN(20) {
	case 0, 1:
		_, err := w.conn.Exec(ctx, "rollback")
		return err
	case 2, 3:
		return w.prepared(ctx, fmt.Sprintf("%s_%d", w.name, number))
	case 4:
		w.wait(ctx, 1, 150)
	}
	_, err := w.conn.Exec(ctx, "commit")
	return err
}

func (w *writer) change(ctx context.Context) error {
	sql, args := w.statement()
	if w.IntN(400) == 0 {
		sql, args = "truncate "+[]string{"t", "n, f", "d"}[w.IntN(3)], nil
	}
	if _, err := w.conn.Exec(ctx, "savepoint a"); err != nil {
		return err
	}
	_, err := w.conn.Exec(ctx, sql, args...)
	if pg.SQLState(err) == "40P01" {
		return err
	}
	if err != nil || w.IntN(6) == 0 {
		_, err = w.conn.Exec(ctx, "rollback to a")
	}
	return err
}

func (w *writer) prepared(ctx context.Context, gid string) error {
	if _, err := w.conn.Exec(ctx, "prepare transaction '"+gid+"'"); err != nil {
		return err
	}
	w.wait(ctx, 1, 60)
	_, err := w.conn.Exec(ctx, "commit prepared '"+gid+"'")
	return err
}

// wait lets others in, one time in so many.
func (w *writer) wait(ctx context.Context, oneIn, millis int) {
	if w.IntN(oneIn) == 0 {
		_, _ = w.conn.Exec(ctx, "select pg_sleep($1)", float64(w.IntN(millis))/1000)
	}
}

var errEnough = errors.New("enough")

// chunk copies a key range as the copy does: lock, snapshot, rows.
func (r *rig) chunk(ctx context.Context, from, to *pgx.Conn, table, where string) (migration.Snapshot, migration.LSN, error) {
	return r.chunkInto(ctx, from, to, table, "select * from only "+table+" where "+where, table)
}

// chunkInto copies what a query gives into a table of the target.
func (r *rig) chunkInto(ctx context.Context, from, to *pgx.Conn, table, query, into string) (migration.Snapshot, migration.LSN, error) {
	var snapshot, high string
	tx, err := from.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return migration.Snapshot{}, 0, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, "lock table only "+table+" in access share mode"); err != nil {
		return migration.Snapshot{}, 0, err
	}
	if err := tx.QueryRow(ctx, "select txid_current_snapshot()::text, pg_current_wal_insert_lsn()::text").Scan(&snapshot, &high); err != nil {
		return migration.Snapshot{}, 0, err
	}
	if err := copyRows(ctx, from, to, query, into); err != nil {
		return migration.Snapshot{}, 0, err
	}
	s, err := migration.ParseSnapshot(snapshot)
	if err != nil {
		return s, 0, err
	}
	lsn, err := migration.ParseLSN(high)
	return s, lsn, errors.Join(err, tx.Commit(ctx))
}

// copyTable copies chunks in any order, with pauses, and records the smallest and the greatest snapshot.
func (r *rig) copyTable(ctx context.Context, random *rand.Rand, table string, where []string) error {
	return r.copyMapped(ctx, random, table, table, "* from only "+table, where)
}

// copyMapped copies what a query gives of each chunk into a table of the target.
func (r *rig) copyMapped(ctx context.Context, random *rand.Rand, table, into, query string, where []string) error {
	from, err := pgx.Connect(ctx, r.source.URI)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close(ctx) }()
	to, err := pgx.Connect(ctx, r.target.URI)
	if err != nil {
		return err
	}
	defer func() { _ = to.Close(ctx) }()
	var least, greatest migration.Snapshot
	var high migration.LSN
	for n, i := range random.Perm(len(where)) {
		condition := " where "
		if strings.Contains(query, condition) {
			condition = " and "
		}
		snapshot, lsn, err := r.chunkInto(ctx, from, to, table, "select "+query+condition+where[i], into)
		if err != nil {
			return fmt.Errorf("chunk %q of %s: %w", where[i], table, err)
		}
		if least.IsZero() || snapshot.Includes(greatest) {
			greatest = snapshot
		}
		if least.IsZero() || least.Includes(snapshot) {
			least = snapshot
		}
		high = max(high, lsn)
		if r.midway != nil && n < len(where)-1 {
			r.midway()
		}
		if _, err := from.Exec(ctx, "select pg_sleep($1)", float64(random.IntN(150))/1000); err != nil {
			return err
		}
	}
	_, err = to.Exec(ctx, "update dts_sync.tbl set stage = 'band', smin = $2, smax = $3, hi_lsn = $4::text::pg_lsn where name = $1",
		table, least.String(), greatest.String(), high.String())
	return err
}

func TestRandomWritersDuringAndAfterTheCopyLeaveEqualTables(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			raceTheCopy(t, newRig(t, bandTables), seed, func(moment) {})
		})
	}
}

// moment is one at which the copy lets somebody in while its writers are at work.
type moment int

const (
	midway moment = iota // a chunk is copied and others of its table are not
	copied               // all are
)

func raceTheCopy(t *testing.T, r *rig, seed uint64, at func(moment)) {
	r.source.Exec(t, "alter table t add unique (u)")
	random := rand.New(rand.NewPCG(seed, 0))
	writers, stop := context.WithCancelCause(t.Context())
	var group errgroup.Group
	for i := range uint64(4) {
		w := &writer{rand.New(rand.NewPCG(seed, i+1)), r.source.Conn(t), fmt.Sprintf("%s_%d", r.source.Name, i)}
		for n := range 60 { // rows to begin with
			must(t, w.transaction(t.Context(), n))
		}
		group.Go(func() error {
			for n := 100; writers.Err() == nil; n++ {
				if err := w.transaction(context.WithoutCancel(writers), n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	r.midway = sync.OnceFunc(func() { at(midway) })
	copies, ctx := errgroup.WithContext(t.Context())
	for table, where := range map[string][]string{
		"t": ranges("B", "b-05", "c", "d-05", "é"), "n": ranges("10", "25.00", "50", "75"), "f": ranges("20", "50", "80"), "d": {"true"},
	} {
		order := rand.New(rand.NewPCG(seed, random.Uint64()))
		copies.Go(func() error { return r.copyTable(ctx, order, table, where) })
	}
	must(t, copies.Wait())
	at(copied)
	r.start()
	for range 4 {
		must(t, r.follow(1+random.IntN(40)))
		r.confirm()
	}
	stop(errEnough)
	must(t, group.Wait())
	r.start() // and once more in the middle of what is left
	r.drain(0)
	r.drain(0)
	if counts := r.applier.Tables(); counts.Exact != 4 {
		t.Fatalf("counts are %+v", counts)
	}
	r.mustEqual()
	r.target.Exec(t, "alter table t add unique (u)")
	if n := pgtest.Value[int64](t, r.target, "select coalesce(sum(conflicts), 0)::int8 from dts_sync.tbl"); n != 0 {
		t.Fatalf("%d conflicts: %v", n, r.target.Query(t, "select * from dts_sync.conflict limit 5"))
	}
}

// ranges are of k, half-open, and leave nothing out. Texts are in an order that is the same by bytes.
func ranges(bounds ...string) []string {
	where := []string{"k < '" + bounds[0] + "'"}
	for i, bound := range bounds[1:] {
		where = append(where, fmt.Sprintf("k >= '%s' and k < '%s'", bounds[i], bound))
	}
	return append(where, "k >= '"+bounds[len(bounds)-1]+"'")
}

// A key change with an unchanged TOASTed value, whose old row the copy had seen elsewhere or not at all, reads the row
// from the source; the source's snapshot then prolongs the band.
func TestMovedRowWithUnchangedToastIsReadAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, bandTables)
	ctx := t.Context()
	r.script("insert into t values ('a', 1, 1, repeat('x', 3000)), ('z', 1, 2, repeat('y', 3000))")
	from, to := r.source.Conn(t), r.target.Conn(t)
	least, _, err := r.chunk(ctx, from, to, "t", "k >= 'm'") // sees z, not what follows
	must(t, err)
	r.script("update t set k = 'b' where k = 'a'; update t set k = 'zz' where k = 'z'; update t set k = 'm' where k = 'zz'")
	r.script("update t set k = 'q' where k = 'b'") // leaves the range that is copied next
	greatest, high, err := r.chunk(ctx, from, to, "t", "k < 'm'")
	must(t, err)
	r.target.Exec(t, "update dts_sync.tbl set stage = 'band', smin = $1, smax = $2, hi_lsn = $3::text::pg_lsn where name = 't'",
		least.String(), greatest.String(), high.String())
	r.script("update t set n = 9 where k = 'q'; update t set k = 'r' where k = 'q'")
	for _, size := range []int{1, 0} {
		r.start()
		before := pgtest.Value[string](t, r.target, "select hi_lsn::text from dts_sync.tbl where name = 't'")
		all := r.receive()
		if size == 1 {
			must(t, r.applier.Apply(ctx, all[:len(all)-2])) // up to the refetches, in one batch
			after := r.target.Query(t, "select hi_lsn::text, array_length(extra, 1) from dts_sync.tbl where name = 't'")
			if after[0][0] == before || after[0][1] == "NULL" {
				t.Fatalf("the band was not prolonged: %v", after)
			}
		}
	}
	r.drain(1)
	r.mustEqual()
	r.mustHaveNoConflict()
	if r.applier.Tables().Exact != 4 {
		t.Fatal("the band did not close")
	}
}

// A commit that waits for a synchronous standby is in the stream before any snapshot sees it. Reading the row again has
// to wait as well, or the row is not found and lost.
func TestReadingAgainWaitsUntilTheTransactionIsVisible(t *testing.T) {
	t.Parallel()
	source := pgtest.Server(t, pgtest.Setting("synchronous_commit", "local"), pgtest.Setting("synchronous_standby_names", "nobody"))
	r := newRigOn(t, source, pgtest.Shared(t), bandTables)
	ctx := t.Context()
	r.script("insert into t values ('a', 1, 1, repeat('x', 3000))")
	from, to := r.source.Conn(t), r.target.Conn(t)
	least, _, err := r.chunk(ctx, from, to, "t", "false")
	must(t, err)
	stuck := r.source.Conn(t)
	_, err = stuck.Exec(ctx, "set synchronous_commit = on; begin; update t set k = 'b' where k = 'a'")
	must(t, err)
	var xid int64
	must(t, stuck.QueryRow(ctx, "select txid_current()").Scan(&xid))
	committed, applied := make(chan error, 1), make(chan error, 1)
	go func() { _, err := stuck.Exec(ctx, "commit"); committed <- err }()
	r.source.WaitUntil(t, "select count(*) = 1 from pg_stat_activity where wait_event = 'SyncRep'")
	// The copy of another chunk came after it.
	r.target.Exec(t, "update dts_sync.tbl set stage = 'band', smin = $1, smax = $2, hi_lsn = 'FFFF/0' where name = 't'",
		least.String(), fmt.Sprintf("%d:%d:", xid+1, xid+1))
	a, all := r.start(), r.receive()
	go func() { applied <- a.Apply(ctx, all) }()
	r.source.WaitUntil(t, "select count(*) = 1 from pg_stat_activity where application_name like 'pgdts/%' and state = 'idle' and query = 'rollback'")
	select {
	case err := <-applied:
		t.Fatalf("did not wait: %v", err)
	default:
	}
	must(t, source.Set(ctx, "synchronous_standby_names", ""))
	must(t, <-committed)
	must(t, <-applied)
	r.mustEqual()
}
