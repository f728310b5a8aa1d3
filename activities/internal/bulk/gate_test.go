package bulk_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
)

// gate counts, and lets pass slowly until it is opened.
type gate struct {
	mu                   sync.Mutex
	queries, rows, bytes int64
	rate                 float64
	opened               chan struct{}
	pause                time.Duration
}

func newGate() *gate { return &gate{opened: make(chan struct{}), pause: 20 * time.Millisecond} }

func (g *gate) open() { close(g.opened) }

func (g *gate) Query(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queries++
	return nil
}

func (g *gate) Pass(ctx context.Context, rows, bytes int64) error {
	g.mu.Lock()
	g.rows += rows
	g.bytes += bytes
	g.mu.Unlock()
	select {
	case <-g.opened:
	case <-ctx.Done():
	case <-time.After(g.pause):
	}
	return ctx.Err()
}

func (g *gate) BytesPerSecond() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rate
}

func (g *gate) Portion(_, bytes int64) int64 { return bytes }

func (g *gate) lower(rate float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rate = rate
}

func TestGateSeesEveryRowAndEveryReadingStatement(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table a (id int primary key, pad text); create table x (id int primary key, doc text, m xml)")
	b.source.Exec(t, `insert into a select g, repeat('x', 300) from generate_series(1, 5000) g; insert into x select g, repeat('x', 100), '<a/>' from generate_series(1, 500) g;
		insert into x values (0, repeat('y', 3000000), null)`)
	b.config.ChunkBytes = 200 << 10
	gate := newGate()
	gate.open()
	b.config.Gate = gate
	planned := b.plan()
	sampling := gate.queries
	require.Positive(t, sampling)
	copied := b.copy(2)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, int64(planned.Chunks), gate.queries-sampling)
	require.Equal(t, copied.Bytes, gate.bytes)
	require.GreaterOrEqual(t, gate.rows, copied.Rows)
	require.LessOrEqual(t, gate.rows, copied.Rows+int64(planned.Chunks), "the end of a binary stream is a message too")
}

func TestChunksFollowTheRate(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table a (id int primary key, pad text); create table p (pad text)")
	b.source.Exec(t, `insert into a select g, repeat('x', 900) from generate_series(1, 16000) g; insert into p select repeat('x', 900) from generate_series(1, 16000) g; analyze`)
	gate := newGate()
	gate.open()
	b.config.Gate, b.config.Spec.Parallel.Copy = gate, 1
	gate.lower(8 << 20 / 60)
	require.Equal(t, 4, b.plan().Chunks, "what passes in a minute")
	gate.lower(1 << 20 / 60)
	b.copy(2)
	pgtest.MustEqual(t, b.source, b.target)
	chunks := b.target.Query(t, "select count(*), max(bytes) < 4 * avg(bytes), sum(bytes_est) = (select sum(est_bytes) from dts_sync.tbl) from dts_sync.chunk")[0]
	require.Equal(t, []string{"t", "t"}, chunks[1:])
	require.GreaterOrEqual(t, pgtest.Value[int](t, b.target, "select count(*) from dts_sync.chunk"), 30)
}

func TestChunkThatTakesTooLongIsSplit(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table a (id int primary key, pad text); create table p (pad text); create table one (pad text)")
	b.source.Exec(t, `insert into a select g, repeat('x', 900) from generate_series(1, 4000) g; insert into p select repeat('x', 900) from generate_series(1, 4000) g; analyze`)
	b.config.ChunkBytes, b.config.GiveWayAfter, b.config.ChunkTimeMax = 2<<20, 100*time.Millisecond, 300*time.Millisecond
	gate := newGate()
	gate.pause = 100 * time.Millisecond
	b.config.Gate = gate
	before := b.plan().Chunks
	lane := b.start(t.Context(), b.lane("copy-0"))
	b.target.WaitUntil(t, "select count(*) > "+"10"+" from dts_sync.chunk")
	gate.open()
	require.NoError(t, <-lane)
	require.Less(t, before, 10)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "0", b.target.Query(t, "select count(*) from dts_sync.chunk where failed_at is not null")[0][0])
}

func TestCopyGivesWayToAlterTable(t *testing.T) {
	t.Parallel()
	for _, ddl := range []string{"create table t (id int primary key, pad text)", "create table t (id int, pad text)"} {
		b := newBench(t, ddl)
		b.source.Exec(t, "insert into t select g, repeat('x', 900) from generate_series(1, 2000) g")
		b.config.GiveWayAfter = 100 * time.Millisecond
		gate := newGate()
		gate.pause = 2 * time.Second
		b.config.Gate = gate
		b.plan()
		lane := b.start(t.Context(), b.lane("copy-0"))
		b.source.WaitUntil(t, "select exists (select from pg_locks where relation = 't'::regclass and mode = 'AccessShareLock' and granted and pid <> pg_backend_pid())")
		b.source.Exec(t, "set lock_timeout = '20s'; alter table t alter pad set default 'y'")
		require.Equal(t, "0", b.target.Query(t, "select count(*) from dts_sync.chunk where state = 'done'")[0][0], "it has not waited for the copy")
		gate.open()
		require.NoError(t, <-lane)
		pgtest.MustEqual(t, b.source, b.target)
		require.Equal(t, "0", b.target.Query(t, "select count(*) from dts_sync.chunk where failed_at is not null")[0][0])
	}
}
