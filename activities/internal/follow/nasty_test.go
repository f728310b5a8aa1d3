package follow

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// equalSides is a migration whose tables are equal, with the real applier.
func equalSides(t *testing.T, server *pgserver.Server, ddl string) *slottest.Bench {
	t.Helper()
	b := slottest.New(t, server, ddl)
	b.To.Exec(t, ddl)
	b.Prepare(t)
	exact(t, b)
	return b
}

func realFollower(t *testing.T, b *slottest.Bench) *Follower {
	t.Helper()
	return New(Config{
		Source: b.Source, Target: b.Target, Spec: b.Spec, Run: slottest.Run, Report: b.Report, Logger: zaptest.NewLogger(t),
	})
}

func awaitMark(t *testing.T, f *Follower, d time.Duration) {
	t.Helper()
	ctx := within(t, d)
	marker, err := f.Mark(ctx)
	require.NoError(t, err)
	_, err = f.AwaitMarker(ctx, marker)
	require.NoError(t, err)
}

const walsender = "select pid || ' ' || backend_start from pg_stat_replication where application_name like '%stream%'"

func TestTargetThatIsLockedLongerThanTheSourcesTimeoutCostsNoConnection(t *testing.T) {
	t.Parallel()
	b := equalSides(t, pgtest.Server(t, pgtest.Setting("wal_sender_timeout", "3s")), keyed)
	f := realFollower(t, b)
	stop := start(t, f)
	awaitMark(t, f, time.Minute)
	before := pgtest.Value[string](t, b.From, walsender)
	locker := b.To.Conn(t)
	_, err := locker.Exec(t.Context(), "begin; lock table keyed")
	require.NoError(t, err)
	b.From.Exec(t, "insert into keyed select g, repeat('x', 100) from generate_series(1, 1000) g")
	b.To.WaitUntil(t, "select exists (select from pg_locks where not granted)")
	stalled := pgtest.Value[string](t, b.From, "select now()::text")
	b.From.WaitUntil(t, "select reply_time > '"+stalled+"'::timestamptz + interval '7 s' from pg_stat_replication")
	_, err = locker.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	awaitMark(t, f, time.Minute)
	require.Equal(t, before, pgtest.Value[string](t, b.From, walsender), "the walsender was another one")
	require.NoError(t, stop())
	pgtest.MustEqual(t, b.From, b.To)
}

func TestSlotMadeAnewUnderItsNameIsRefused(t *testing.T) {
	t.Parallel()
	b := equalSides(t, pgtest.Shared(t), keyed)
	b.From.Exec(t, "insert into keyed values (1, 'lost with the slot')")
	b.From.Exec(t, "select pg_drop_replication_slot($1)", b.Spec.ID.Slot())
	b.From.Exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", b.Spec.ID.Slot())
	_ = slottest.MustFault(t, migration.FaultSlotLost, realFollower(t, b).Run(within(t, time.Minute)))
	require.Zero(t, pgtest.Value[int](t, b.To, "select count(*)::int from keyed"))
}

func TestRowOfManyMegabytesArrivesInEveryOperation(t *testing.T) {
	t.Parallel()
	b := equalSides(t, pgtest.Shared(t), "create table wide (id int primary key, n int, big text)")
	f := realFollower(t, b)
	stop := start(t, f)
	for _, sql := range []string{
		"insert into wide select 1, 0, string_agg(md5(g::text), '') from generate_series(1, 500000) g", // 16 MB, beyond every budget of a part
		"update wide set n = 1",
		"update wide set id = 2",
		"insert into wide select 3, n, big || 'x' from wide",
		"delete from wide where id = 2",
	} {
		b.From.Exec(t, sql)
	}
	awaitMark(t, f, 2*time.Minute)
	require.NoError(t, stop())
	pgtest.MustEqual(t, b.From, b.To)
}

// A transaction that was held whole would be above the bound before the collector has twice its room.
func TestMemoryDoesNotGrowWithATransaction(t *testing.T) {
	b := equalSides(t, pgtest.Shared(t), "create table keyed (id int primary key, a text, b text, c text, d text, e text, f text)")
	f := realFollower(t, b)
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	idle := memory.HeapInuse
	b.From.Exec(t, "insert into keyed select g, md5(g::text), 'b', 'c', repeat('d', 100), 'e', 'f' from generate_series(1, 600000) g")
	stop := start(t, f)
	waited := make(chan struct{})
	ctx := within(t, 4*time.Minute)
	go func() { // ends with ctx
		defer close(waited)
		marker, err := f.Mark(ctx)
		if err == nil {
			_, err = f.AwaitMarker(ctx, marker)
		}
		if err != nil {
			t.Error(err)
		}
	}()
	most := mostMemory(ctx, idle, waited)
	require.NoError(t, stop())
	t.Logf("%d MB at most", most>>20)
	require.Less(t, most, uint64(320<<20), "as much as the transaction alone would take")
	require.Equal(t, 600_000, pgtest.Value[int](t, b.To, "select count(*)::int from keyed"))
}

// mostMemory samples the heap until done closes.
func mostMemory(ctx context.Context, idle uint64, done <-chan struct{}) (most uint64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var memory runtime.MemStats
	for {
		select {
		case <-ctx.Done():
			return most
		case <-done:
			return most
		case <-tick.C:
			runtime.ReadMemStats(&memory)
			most = max(most, memory.HeapInuse-min(memory.HeapInuse, idle))
		}
	}
}
