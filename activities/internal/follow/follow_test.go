package follow

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/pgdts/pgdts/activities/internal/apply"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const keyed = "create table keyed (id int primary key, v text)"

// recorder is an applier that writes the progress row and counts, so that the follower's own promises are tested alone.
type recorder struct {
	conn *pgx.Conn
	lane ledger.Lane
	// before runs before each batch becomes durable.
	before func(context.Context) error

	mu       sync.Mutex
	position migration.LSN
	changes  int64
	exactAt  migration.LSN // tables are exact once the position has passed it
}

func (r *recorder) Apply(ctx context.Context, transactions []wal.Transaction) error {
	if r.before != nil {
		if err := r.before(ctx); err != nil {
			return err
		}
	}
	n := 0
	for _, tx := range transactions {
		for _, change := range tx.Changes {
			if change.Op != wal.Message {
				n++
			}
		}
	}
	return r.advance(ctx, transactions[len(transactions)-1].End, n)
}

func (r *recorder) Idle(ctx context.Context, position migration.LSN) error {
	return r.advance(ctx, position, 0)
}

func (r *recorder) advance(ctx context.Context, to migration.LSN, changes int) error {
	_, err := r.conn.Exec(ctx, "update dts_sync.progress set end_lsn = $2 where migration = $1", r.lane.ID, to.String())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.position = to
	r.changes += int64(changes)
	return err
}

func (r *recorder) Position() migration.LSN {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.position
}

func (r *recorder) Tables() migration.TableCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := migration.TableCounts{Total: 1, Copied: 1}
	if r.position >= r.exactAt {
		counts.Exact = 1
	}
	return counts
}

func (r *recorder) Stats() apply.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return apply.Stats{Changes: r.changes}
}

func (r *recorder) Close() {}

type bench struct {
	*slottest.Bench
	recorder *recorder
}

func prepare(t *testing.T) bench {
	t.Helper()
	b := slottest.New(t, pgtest.Shared(t), keyed)
	b.Prepare(t)
	return bench{b, &recorder{}}
}

func (b bench) follower(t *testing.T) *Follower {
	t.Helper()
	f := New(Config{
		Source: b.Source, Target: b.Target, Spec: b.Spec, Run: slottest.Run, Report: b.Report, Logger: zaptest.NewLogger(t),
	})
	f.openApplier = func(ctx context.Context, lane ledger.Lane) (applier, error) {
		b.recorder.conn, b.recorder.lane = b.Connect(t, b.Target), lane
		expected, err := slot.Expect(ctx, b.Ledger(t))
		b.recorder.position = expected.Applied
		return b.recorder, err
	}
	return f
}

// start runs a follower until the returned function is called, which gives what Run returned.
func start(t *testing.T, f *Follower) func() error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestConfirmNeverAheadOfProgress(t *testing.T) {
	t.Parallel()
	b := prepare(t)
	b.recorder.before = func(ctx context.Context) error { return wait(ctx, 30*time.Millisecond) }
	f := b.follower(t)
	stop := start(t, f)
	source, target := b.From.Conn(t), b.To.Conn(t)
	var moved migration.LSN
	read := func(conn *pgx.Conn, sql string) migration.LSN {
		var text string
		require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&text))
		position, err := migration.ParseLSN(text)
		require.NoError(t, err)
		return position
	}
	first := read(target, "select end_lsn::text from dts_sync.progress")
	writer := b.From.Conn(t)
	for i := 0; i < 300 || moved == first; i++ {
		_, err := writer.Exec(t.Context(), "insert into keyed values ($1)", i)
		require.NoError(t, err)
		moved = read(source, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '"+b.Spec.ID.Slot()+"'")
		durable := read(target, "select end_lsn::text from dts_sync.progress")
		require.LessOrEqual(t, moved, durable)
	}
	require.NoError(t, stop())
	require.Equal(t, b.recorder.Position(),
		read(source, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '"+b.Spec.ID.Slot()+"'"),
		"at the end the source knows everything that is durable")
}

func TestMarkerIsDurableAfterAllThatWasCommittedBefore(t *testing.T) {
	t.Parallel()
	b := prepare(t)
	f := b.follower(t)
	stop := start(t, f)
	b.From.Exec(t, "insert into keyed select generate_series(1, 1000)")
	marker, err := f.Mark(t.Context())
	require.NoError(t, err)
	end, err := f.AwaitMarker(within(t, 20*time.Second), marker)
	require.NoError(t, err)
	require.Equal(t, int64(1000), f.Status().Changes)
	require.GreaterOrEqual(t, b.recorder.Position(), end)
	require.NoError(t, stop())
	_, err = f.AwaitMarker(t.Context(), "never")
	require.ErrorIs(t, err, errNotRunning)
}

func TestExactIsReachedOnAnIdleSource(t *testing.T) {
	t.Parallel()
	b := prepare(t)
	current, err := migration.ParseLSN(pgtest.Value[string](t, b.From, "select pg_current_wal_insert_lsn()::text"))
	require.NoError(t, err)
	b.recorder.exactAt = current + 1
	f := b.follower(t)
	stop := start(t, f)
	require.NoError(t, f.AwaitExact(within(t, 10*time.Second)))
	require.NoError(t, stop())
}

func TestLatencyCountsWhatATargetThatStandsStillLacks(t *testing.T) {
	t.Parallel()
	b := prepare(t)
	open := make(chan struct{})
	b.recorder.before = func(ctx context.Context) error {
		select {
		case <-open:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f := b.follower(t)
	stop := start(t, f)
	err := f.AwaitSteady(within(t, 1500*time.Millisecond), time.Second, 0)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	// The first change may be late on a busy machine; from it on the latency grows with the clock.
	require.Eventually(t, func() bool { return f.Latency() > time.Second }, 20*time.Second, 50*time.Millisecond)
	close(open)
	require.NoError(t, f.AwaitSteady(within(t, 20*time.Second), time.Second, 300*time.Millisecond))
	require.Less(t, f.Latency(), time.Second)
	require.NoError(t, stop())
}

func TestCancelFinishesTheBatchInHand(t *testing.T) {
	t.Parallel()
	b := prepare(t)
	entered, release := make(chan struct{}, 100), make(chan struct{})
	b.recorder.before = func(ctx context.Context) error {
		entered <- struct{}{}
		select {
		case <-release:
			return ctx.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f := b.follower(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	<-entered
	before := b.recorder.Position()
	cancel()
	close(release)
	require.NoError(t, <-done)
	require.Greater(t, b.recorder.Position(), before)
}

func TestFaultOfTheTargetEndsRunAndWhoeverWaits(t *testing.T) {
	t.Parallel()
	b := prepare(t)
	broken := migration.Faultf(migration.FaultConflict, "apply", "keyed", "broken")
	b.recorder.before = func(context.Context) error { return broken }
	f := b.follower(t)
	stop := start(t, f)
	_, err := f.AwaitMarker(within(t, 20*time.Second), "never")
	require.ErrorIs(t, err, broken)
	_ = stop()
}

func TestRunRefusesASlotThatWasConsumed(t *testing.T) {
	t.Parallel()
	b := prepare(t)
	b.From.Exec(t, "insert into keyed values (1)")
	b.From.Exec(t, "select pg_replication_slot_advance($1, pg_current_wal_lsn())", b.Spec.ID.Slot())
	_ = slottest.MustFault(t, migration.FaultSlotLost, b.follower(t).Run(t.Context()))
}

func TestLaterRunTakesTheStreamOver(t *testing.T) {
	t.Parallel()
	b := prepare(t)
	first := b.follower(t)
	done := make(chan error, 1)
	go func() { done <- first.Run(t.Context()) }()
	_, err := first.Mark(t.Context())
	require.NoError(t, err)
	other := bench{b.Bench, &recorder{}}
	second := other.follower(t)
	stop := start(t, second)
	err = <-done
	var fault *migration.Fault
	require.True(t, errors.As(err, &fault), "%v", err)
	marker, err := second.Mark(t.Context())
	require.NoError(t, err)
	_, err = second.AwaitMarker(within(t, 20*time.Second), marker)
	require.NoError(t, err)
	require.NoError(t, stop())
}

func TestLeaseThatIsTakenEndsRun(t *testing.T) {
	t.Parallel()
	b := prepare(t)
	f := b.follower(t)
	done := make(chan error, 1)
	go func() { done <- f.Run(t.Context()) }()
	_, err := f.Mark(t.Context())
	require.NoError(t, err)
	b.To.Exec(t, "update dts_sync.migration set run = 'other'")
	_ = slottest.MustFault(t, migration.FaultFenced, <-done)
}

func TestHoldConsumesNothingAndReportsWhatTheSlotKeeps(t *testing.T) {
	t.Parallel()
	b := prepare(t)
	f := b.follower(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Hold(ctx) }()
	b.From.WaitUntil(t, fmt.Sprintf("select active from pg_replication_slots where slot_name = '%s'", b.Spec.ID.Slot()))
	b.From.Exec(t, "insert into keyed select g, repeat('x', 100) from generate_series(1, 10000) g")
	require.Eventually(t, func() bool {
		beats := b.Beats()
		return len(beats) > 0 && beats[len(beats)-1].WALRetained > 1_000_000
	}, 20*time.Second, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.Zero(t, b.recorder.changes)
}

func TestSourceShutsDownWithoutWaitingForTheNextIdleRecord(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	b := bench{slottest.New(t, pgtest.Shared(t), ""), &recorder{}}
	from := slottest.New(t, server, keyed)
	b.From, b.Source, b.Spec.Source = from.From, from.Source, from.Spec.Source
	b.Prepare(t)
	f := b.follower(t)
	done := make(chan error, 1)
	go func() { done <- f.Run(t.Context()) }()
	require.NoError(t, f.AwaitSteady(within(t, 20*time.Second), time.Second, 100*time.Millisecond))
	began := time.Now()
	require.NoError(t, server.Stop(pgserver.Fast))
	require.Less(t, time.Since(began), 5*time.Second)
	_ = slottest.MustFault(t, migration.FaultConnection, <-done)
}

func TestIdleSourceIsConfirmed(t *testing.T) {
	t.Parallel()
	b := prepare(t)
	before := pgtest.Value[string](t, b.From, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", b.Spec.ID.Slot())
	f := b.follower(t)
	stop := start(t, f)
	// Only heartbeats write here.
	b.From.WaitUntil(t, fmt.Sprintf("select confirmed_flush_lsn > '%s' from pg_replication_slots where slot_name = '%s'", before, b.Spec.ID.Slot()))
	require.NoError(t, stop())
}

// What other databases of the cluster write is not ours, and must not fill the source's disk because we have nothing to read.
func TestIdleDatabaseBesideABusyOneLetsTheSourceForget(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, pgtest.Setting("max_slot_wal_keep_size", "100MB"))
	b := bench{slottest.New(t, server, keyed), &recorder{}}
	b.Prepare(t)
	busy := pgtest.Database(t, server)
	busy.Exec(t, "create table noise as select repeat('x', 1000) from generate_series(1, 60000)")
	const kept = "(select pg_current_wal_lsn() - restart_lsn from pg_replication_slots where not temporary)"
	b.From.WaitUntil(t, "select "+kept+" > 60000000")
	f := b.follower(t)
	stop := start(t, f)
	// A slot moves over a record of running transactions, of which a checkpoint writes one.
	require.Eventually(t, func() bool {
		busy.Exec(t, "checkpoint")
		return pgtest.Value[bool](t, b.From, "select "+kept+" < 10000000")
	}, 30*time.Second, 100*time.Millisecond)
	require.Eventually(t, func() bool {
		wal := f.Status().WAL()
		return wal.Retained < 10_000_000 && wal.Limit > 80<<20 && wal.Alert == 0
	}, 20*time.Second, 50*time.Millisecond)
	require.NoError(t, stop())
	alerts := map[int]bool{}
	for _, beat := range b.Beats() {
		alerts[beat.WALAlert] = true
	}
	require.Contains(t, alerts, 50, "the level was told of while it lasted")
}
