package throttle

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func set(t *testing.T, b *slottest.Bench, full migration.FullThrottle) {
	t.Helper()
	require.NoError(t, b.Ledger(t).SetThrottle(t.Context(), migration.Throttle{Full: full}))
}

// process is a meter with a session of its own, as another worker has one.
func process(t *testing.T, b *slottest.Bench) *Meter {
	t.Helper()
	m, err := newMeter(t.Context(), b.Target, b.Spec.ID, migration.TypeFull, zaptest.NewLogger(t))
	require.NoError(t, err)
	t.Cleanup(m.close)
	return m
}

// lanes call do again and again until the returned function is called.
func lanes(t *testing.T, n int, do func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range n {
		running.Go(func() {
			for do(ctx) == nil { // until cancelled
			}
		})
	}
	return sync.OnceFunc(func() { cancel(); running.Wait() })
}

// within counts for a time and compares with the rate.
func within(t *testing.T, counter *atomic.Int64, d time.Duration, perSecond float64, message string) {
	t.Helper()
	before, began := counter.Load(), time.Now()
	timer := time.NewTimer(d)
	<-timer.C
	passed := float64(counter.Load()-before) / time.Since(began).Seconds()
	t.Logf("%s: %.1f/s of %.1f/s (%+.1f %%)", message, passed, perSecond, 100*(passed/perSecond-1))
	require.InEpsilon(t, perSecond, passed, 0.1, message)
}

func TestAllProcessesTogetherKeepTheRates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		rates  migration.FullThrottle
		lower  migration.FullThrottle
		rows   int64
		size   int64
		query  bool
		before float64
		after  float64
	}{
		{name: "rows", rates: migration.FullThrottle{RowsPerSecond: 5000}, lower: migration.FullThrottle{RowsPerSecond: 1500}, rows: 40, size: 4000, before: 5000, after: 1500},
		{name: "bytes", rates: migration.FullThrottle{MegabytesPerSecond: 8}, lower: migration.FullThrottle{MegabytesPerSecond: 20}, rows: 10, size: 100_000, before: 8e6, after: 20e6},
		{name: "queries", rates: migration.FullThrottle{QueriesPerSecond: 20}, lower: migration.FullThrottle{QueriesPerSecond: 50}, query: true, before: 20, after: 50},
		{name: "the lower of two", rates: migration.FullThrottle{RowsPerSecond: 1000, MegabytesPerSecond: 50}, lower: migration.FullThrottle{RowsPerSecond: 1000, MegabytesPerSecond: 1}, rows: 10, size: 20_000, before: 2e6, after: 1e6},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := slottest.New(t, pgtest.Shared(t), "")
			set(t, b, c.rates)
			var passed atomic.Int64
			for range 3 {
				m := process(t, b)
				stop := lanes(t, 2, func(ctx context.Context) error {
					var err error
					if c.query {
						if err = m.Query(ctx); err == nil {
							passed.Add(1)
						}
						return err
					}
					if err = m.Pass(ctx, c.rows, c.size); err == nil {
						if c.name == "rows" {
							passed.Add(c.rows)
						} else {
							passed.Add(c.size)
						}
					}
					return err
				})
				t.Cleanup(stop)
			}
			within(t, &passed, 10*time.Second, c.before, "steady")
			set(t, b, c.lower)
			<-time.After(2 * time.Second) // within which every process has seen it
			within(t, &passed, 10*time.Second, c.after, "changed")
		})
	}
}

func TestProcessThatDiesCostsTheOthersASlice(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), "")
	set(t, b, migration.FullThrottle{RowsPerSecond: 1000})
	for range 5 {
		dying := process(t, b)
		ctx, die := context.WithCancel(t.Context())
		stop := lanes(t, 3, func(context.Context) error { return dying.Pass(ctx, 1_000_000, 1) }) // a quarter of an hour's worth
		require.Eventually(t, func() bool { return len(dying.flow.turn) == 1 }, 5*time.Second, time.Millisecond)
		die()
		stop()
	}
	var passed atomic.Int64
	alive := process(t, b)
	t.Cleanup(lanes(t, 1, func(ctx context.Context) error {
		err := alive.Pass(ctx, 10, 100)
		if err == nil {
			passed.Add(10)
		}
		return err
	}))
	within(t, &passed, 10*time.Second, 1000, "who lives")
}

func TestSleeperSeesThatItIsFree(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), "")
	set(t, b, migration.FullThrottle{RowsPerSecond: 0.001})
	m := process(t, b)
	done := make(chan error, 1)
	go func() { done <- m.Pass(t.Context(), 50, 100) }()
	require.Eventually(t, func() bool { return len(m.flow.turn) == 1 }, 5*time.Second, time.Millisecond)
	set(t, b, migration.FullThrottle{})
	began := time.Now()
	require.NoError(t, <-done)
	require.Less(t, time.Since(began), 3*time.Second)
	require.Zero(t, m.BytesPerSecond())

	set(t, b, migration.FullThrottle{RowsPerSecond: 100_000})
	require.Eventually(t, func() bool { return m.RowsPerSecond() == 100_000 }, 5*time.Second, time.Millisecond)
	began = time.Now()
	require.NoError(t, m.Pass(t.Context(), 1000, 1000))
	require.Less(t, time.Since(began), time.Second, "what was owed at the old rate is forgotten")
}

func TestWithoutARateNothingIsAsked(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), "")
	m := process(t, b)
	conn := <-m.session // whoever asks the ledger now waits for ever
	for range 1000 {
		require.NoError(t, m.Pass(t.Context(), 1_000_000, 1<<40))
		require.NoError(t, m.Query(t.Context()))
	}
	m.session <- conn
}

func TestThrottledWorkOutlivesALostSession(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), "")
	set(t, b, migration.FullThrottle{RowsPerSecond: 100})
	m := process(t, b)
	require.NoError(t, m.Pass(t.Context(), 1, 1))
	b.To.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = '"+b.Spec.ID.Session("throttle", 0)+"'")
	require.NoError(t, m.Pass(t.Context(), 60, 1))
}

func TestLanesOfAProcessShareASession(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), "")
	set(t, b, migration.FullThrottle{RowsPerSecond: 100})
	var shared Shared
	var leaves []func()
	for range 8 {
		gate, leave, err := shared.Enter(t.Context(), b.Target, b.Spec.ID, migration.TypeFull, zaptest.NewLogger(t))
		require.NoError(t, err)
		require.NoError(t, gate.Pass(t.Context(), 1, 1))
		leaves = append(leaves, leave)
	}
	session := "from pg_stat_activity where application_name = '" + b.Spec.ID.Session("throttle", 0) + "'"
	require.Equal(t, int64(1), pgtest.Value[int64](t, b.To, "select count(*) "+session))
	for _, leave := range leaves {
		leave()
		leave() // twice does no harm
	}
	b.To.WaitUntil(t, "select not exists (select "+session+")")
}

func TestRateOfRowsMakesSmallChunksOfWideRows(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), "")
	set(t, b, migration.FullThrottle{RowsPerSecond: 1000, MegabytesPerSecond: 50})
	m := process(t, b)
	require.InDelta(t, 1000*rowBytes, m.BytesPerSecond(), 1)
	require.NoError(t, m.Pass(t.Context(), 10, 10_000))
	require.InDelta(t, 1_000_000, m.BytesPerSecond(), 1)
	require.NoError(t, m.Pass(t.Context(), 1, 2_000_000))
	require.InDelta(t, 50e6, m.BytesPerSecond(), 1)
}

// A portion that takes long is a burst at its end; one that is cut too small costs the speed of the copy.
func TestPortionsTakeATenthOfASecond(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		byRows, byBytes   float64
		rows, bytes, want int64
	}{
		{name: "no cap", rows: 1000, bytes: 256 << 10, want: 256 << 10},
		{name: "narrow rows", byRows: 100, rows: 20_000, bytes: 200_000, want: 100}, // ten rows of ten bytes
		{name: "a row a minute", byRows: 1.0 / 60, rows: 20_000, bytes: 200_000, want: 10},
		{name: "a wide row in many buffers", byRows: 100, rows: 0, bytes: 256 << 10, want: 256 << 10},
		{name: "more than there is", byRows: 1e6, rows: 100, bytes: 1000, want: 1000},
		{name: "bytes", byBytes: 1e6, rows: 100, bytes: 256 << 10, want: 100_000},
		{name: "the lower of two", byRows: 100, byBytes: 1e6, rows: 1000, bytes: 200_000, want: 2000},
		{name: "hardly any", byBytes: 1, rows: 1, bytes: 10, want: 1},
	} {
		var m Meter
		m.rates.Store(&ledger.Flow{ledger.Rows: c.byRows, ledger.Bytes: c.byBytes})
		require.Equal(t, c.want, m.Portion(c.rows, c.bytes), c.name)
	}
}

// deaf is a target that takes connections and never says a word.
func deaf(t *testing.T) *pg.Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	server, err := pg.NewServer(migration.Target, migration.Endpoint{URI: "postgres://nobody@" + listener.Addr().String() + "/nothing?sslmode=disable"}, nil)
	require.NoError(t, err)
	return server
}

func TestTargetThatHangsDelaysNoOtherMigration(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), "")
	hanging := deaf(t)
	var shared Shared
	other := migration.RandomID("hanging")
	ctx, giveUp := context.WithCancel(t.Context())
	failures := make(chan error, 3)
	for range cap(failures) {
		go func() {
			_, _, err := shared.Enter(ctx, hanging, other, migration.TypeFull, zaptest.NewLogger(t))
			failures <- err
		}()
	}
	users := func() int {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if e := shared.gates[key{other, migration.TypeFull}]; e != nil {
			return e.users
		}
		return 0
	}
	require.Eventually(t, func() bool { return users() == cap(failures) }, 5*time.Second, time.Millisecond)

	began := time.Now()
	gate, leave, err := shared.Enter(t.Context(), b.Target, b.Spec.ID, migration.TypeFull, zaptest.NewLogger(t))
	require.NoError(t, err)
	require.NoError(t, gate.Pass(t.Context(), 1, 1))
	leave()
	require.Less(t, time.Since(began), 5*time.Second)
	require.Equal(t, cap(failures), users(), "they still wait")

	giveUp()
	for range cap(failures) {
		require.Error(t, <-failures)
	}
	require.Empty(t, shared.gates, "who could not enter leaves nothing behind")
}
