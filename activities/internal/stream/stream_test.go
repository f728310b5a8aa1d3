package stream_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/activities/internal/stream"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const keyed = "create table keyed (id int primary key, v text); create table aside (id int primary key, v text)"

// limits wait longer than any test does.
var limits = stream.Limits{Changes: 20_000, Bytes: 16 << 20, Wait: 20 * time.Second}

type bench struct {
	*slottest.Bench
	config stream.Config
}

func prepare(t *testing.T, server *pgserver.Server) bench {
	t.Helper()
	b := slottest.New(t, server, keyed)
	start := b.Prepare(t)
	return bench{b, stream.Config{
		Source: b.Source, ID: b.Spec.ID, Session: b.Enter(t, "stream").Session(), Slot: b.Spec.ID.Slot(),
		Publications: []string{b.Spec.ID.Publication()}, Start: start, Version: b.Version(t),
	}}
}

func (b bench) open(t *testing.T) *stream.Session {
	t.Helper()
	session, err := stream.Open(t.Context(), b.config)
	require.NoError(t, err)
	t.Cleanup(session.Close)
	return session
}

// next is the next batch with transactions in it.
func next(t *testing.T, session *stream.Session) []wal.Transaction {
	t.Helper()
	for {
		batch, err := session.Next(t.Context(), limits)
		require.NoError(t, err)
		if len(batch.Transactions) > 0 {
			return batch.Transactions
		}
		require.NotZero(t, batch.Idle, "nothing came")
	}
}

// collect takes batches until there were n changes.
func collect(t *testing.T, session *stream.Session, n int) []wal.Transaction {
	t.Helper()
	var all []wal.Transaction
	for changes := 0; changes < n; {
		for _, tx := range next(t, session) {
			changes += len(tx.Changes)
			all = append(all, tx)
		}
	}
	return all
}

func (b bench) flushed(t *testing.T) string {
	t.Helper()
	return pgtest.Value[string](t, b.From, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", b.config.Slot)
}

func TestTransactionsComeWholeAndInOrder(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	session := b.open(t)
	for i := range 50 {
		b.From.Exec(t, fmt.Sprintf("insert into keyed values (%d, 'x'); update keyed set v = 'y' where id = %d", i, i))
	}
	var last migration.LSN
	for i, tx := range collect(t, session, 100) {
		require.True(t, tx.First && tx.Last)
		require.Greater(t, tx.End, last)
		require.Len(t, tx.Changes, 2)
		require.Equal(t, fmt.Sprint(i), string(tx.Changes[0].New[0].Data))
		last = tx.End
	}
	require.GreaterOrEqual(t, session.SourceEnd(), last)
}

func TestNextSessionBeginsAfterWhatWasConfirmed(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	session := b.open(t)
	b.From.Exec(t, "insert into keyed values (1)")
	first := collect(t, session, 1)[0]
	require.Equal(t, b.config.Start.String(), b.flushed(t), "received is not durable")
	session.Confirm(first.End)
	session.Confirm(b.config.Start) // never back
	b.From.WaitUntil(t, fmt.Sprintf("select confirmed_flush_lsn = '%s' from pg_replication_slots where slot_name = '%s'", first.End, b.config.Slot))
	require.Equal(t, first.End, session.Confirmed())
	session.Close()
	b.From.Exec(t, "insert into keyed values (2)")
	b.config.Start = first.End
	require.Equal(t, "2", string(collect(t, b.open(t), 1)[0].Changes[0].New[0].Data))
}

func TestCloseTellsThePositionAndFreesTheSlotAtOnce(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	session := b.open(t)
	b.From.Exec(t, "insert into keyed values (1)")
	end := collect(t, session, 1)[0].End
	session.Confirm(end)
	session.Close()
	session.Close()
	require.Equal(t, end.String(), b.flushed(t))
	require.False(t, pgtest.Value[bool](t, b.From, "select active from pg_replication_slots where slot_name = $1", b.config.Slot))
}

func TestIdleSourceAdvances(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	other := pgtest.Database(t, pgtest.Shared(t))
	session := b.open(t)
	other.Exec(t, "create table noise as select g from generate_series(1, 10000) g")
	passed, err := migration.ParseLSN(pgtest.Value[string](t, other, "select pg_current_wal_lsn()::text"))
	require.NoError(t, err)
	for idle := migration.LSN(0); idle < passed; {
		batch, err := session.Next(t.Context(), limits)
		require.NoError(t, err)
		for _, tx := range batch.Transactions {
			require.Empty(t, tx.Changes)
			idle = tx.End
		}
		idle = max(idle, batch.Idle)
		other.Exec(t, "select txid_current()") // a walsender that has caught up says so when more log comes
	}
}

func TestSlowTargetKeepsConnection(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Server(t, pgtest.Setting("wal_sender_timeout", "2s")))
	b.config.BudgetBytes = 1 << 20
	session := b.open(t)
	const rows = 300_000
	b.From.Exec(t, fmt.Sprintf("insert into keyed select g, repeat('x', 100) from generate_series(1, %d) g", rows))
	changes := len(next(t, session)[0].Changes)
	b.From.WaitUntil(t, "select reply_time - backend_start > '6 s' from pg_stat_replication")
	require.Equal(t, b.config.Start.String(), b.flushed(t), "nothing was durable meanwhile")
	for _, tx := range collect(t, session, rows-changes) {
		changes += len(tx.Changes)
	}
	require.Equal(t, rows, changes)
}

func TestHugeTransactionStaysInBudget(t *testing.T) {
	b := prepare(t, pgtest.Shared(t))
	b.config.BudgetBytes = 4 << 20
	session := b.open(t)
	const rows = 200_000
	b.From.Exec(t, fmt.Sprintf("insert into keyed select g, repeat('x', 500) from generate_series(1, %d) g", rows))
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var most uint64
	for changes, batches := 0, 0; changes < rows; batches++ {
		txs := next(t, session)
		require.Len(t, txs, 1, "a part comes alone")
		require.LessOrEqual(t, txs[0].Bytes, b.config.BudgetBytes)
		changes += len(txs[0].Changes)
		if batches%20 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
	}
	require.Less(t, most-min(most, before.HeapAlloc), uint64(4*b.config.BudgetBytes), "100 MB of rows have passed")
}

func TestSmallTransactionsStayInBudgetWhileTheTargetStands(t *testing.T) {
	b := prepare(t, pgtest.Shared(t))
	b.config.BudgetBytes = 2 << 20
	session := b.open(t)
	const rows = 30_000
	b.From.Exec(t, fmt.Sprintf("do $$ begin for i in 1..%d loop insert into keyed values (i, repeat('x', 1900)); commit; end loop; end $$", rows))
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	changes := 0
	for _, tx := range next(t, session) {
		changes += len(tx.Changes)
	}
	sent := ""
	require.Eventually(t, func() bool {
		last := sent
		sent = pgtest.Value[string](t, b.From, "select sent_lsn::text from pg_stat_replication where application_name = $1", b.config.Session)
		return sent == last
	}, 20*time.Second, 300*time.Millisecond)
	// The kernel's buffers take tens of megabytes.
	require.True(t, pgtest.Value[bool](t, b.From, "select pg_current_wal_lsn() - $1::pg_lsn > 5000000", sent), "the walsender waits for us")
	runtime.GC()
	runtime.ReadMemStats(&now)
	require.Less(t, now.HeapAlloc-min(now.HeapAlloc, before.HeapAlloc), uint64(6*b.config.BudgetBytes), "57 MB of rows are waiting")
	for _, tx := range collect(t, session, rows-changes) {
		changes += len(tx.Changes)
	}
	require.Equal(t, rows, changes)
}

func TestEarlierSessionOfOursGivesTheSlotUp(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	earlier := b.open(t)
	b.config.Session = b.Enter(t, "stream").Session()
	later := b.open(t)
	b.From.Exec(t, "insert into keyed values (1)")
	collect(t, later, 1)
	for {
		batch, err := earlier.Next(t.Context(), limits)
		if err != nil {
			_ = slottest.MustFault(t, migration.FaultConnection, err)
			return
		}
		require.Empty(t, batch.Transactions)
	}
}

func TestStrangerOnTheSlotIsNamed(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	stranger := b.config
	stranger.Session = "stranger"
	session, err := stream.Open(t.Context(), stranger)
	require.NoError(t, err)
	defer session.Close()
	_, err = stream.Open(t.Context(), b.config)
	require.Contains(t, slottest.MustFault(t, migration.FaultOther, err).Hint, "stranger")
}

func TestMissingSlotIsLost(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	b.From.Exec(t, "select pg_drop_replication_slot($1)", b.config.Slot)
	_, err := stream.Open(t.Context(), b.config)
	_ = slottest.MustFault(t, migration.FaultSlotLost, err)
}

// Between a look at the slot and the start of the stream anybody may read from it, make it anew, or take the server's place.
func TestSlotThatRanAheadUnseenIsNotStreamedFrom(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := prepare(t, pgtest.Server(t, pgtest.Major(major)))
			b.From.Exec(t, "insert into keyed values (1)")
			b.From.Exec(t, "select pg_drop_replication_slot($1)", b.config.Slot)
			b.From.Exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", b.config.Slot)
			ahead := b.flushed(t)
			known, err := slot.Expect(t.Context(), b.Ledger(t))
			require.NoError(t, err)
			b.config.Recognise = known.Recognise
			b.config.Held = func(ctx context.Context, _ migration.LSN) error {
				return slot.Check(ctx, b.Connect(t, b.Source), known)
			}
			for range 2 {
				_, err = stream.Open(t.Context(), b.config)
				_ = slottest.MustFault(t, migration.FaultSlotLost, err)
			}
			require.Equal(t, ahead, b.flushed(t), "it was not told a position that hides the gap")
		})
	}
}

func TestStreamOfAnotherServerIsRefused(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	known, err := slot.Expect(t.Context(), b.Ledger(t))
	require.NoError(t, err)
	b.config.Recognise = known.Recognise
	b.open(t).Close()
	for name, wrong := range map[string]slot.Expected{
		"system identifier": {SystemID: "1", Timeline: known.Timeline},
		"timeline":          {SystemID: known.SystemID, Timeline: known.Timeline + 1},
	} {
		b.config.Recognise = wrong.Recognise
		_, err := stream.Open(t.Context(), b.config)
		require.Contains(t, slottest.MustFault(t, migration.FaultWrongServer, err).Message, name)
	}
}

func TestSourceThatGoesDownIsAConnectionFault(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgserver.StopMode{pgserver.Fast, pgserver.Immediate} {
		server := pgtest.Server(t)
		b := prepare(t, server)
		session := b.open(t)
		b.From.Exec(t, "insert into keyed values (1)")
		session.Confirm(collect(t, session, 1)[0].End)
		require.NoError(t, server.Stop(mode))
		for {
			_, err := session.Next(t.Context(), limits)
			if err != nil {
				_ = slottest.MustFault(t, migration.FaultConnection, err)
				break
			}
		}
	}
}

func TestHoldKeepsTheConnectionAndReadsNothing(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Server(t, pgtest.Setting("wal_sender_timeout", "1s")))
	session := b.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	held := make(chan error, 1)
	go func() { held <- session.Hold(ctx) }()
	b.From.Exec(t, "insert into keyed select g, repeat('x', 1000) from generate_series(1, 50000) g")
	b.From.WaitUntil(t, "select reply_time - backend_start > '3 s' from pg_stat_replication")
	require.Equal(t, b.config.Start.String(), b.flushed(t))
	cancel()
	require.NoError(t, <-held)
	collect(t, session, 50000)
}

func TestLatencyOfOneChangeIsSmall(t *testing.T) {
	b := prepare(t, pgtest.Shared(t))
	session := b.open(t)
	conn := b.From.Conn(t)
	fastest := time.Hour
	for i := range 20 {
		_, err := conn.Exec(t.Context(), "insert into keyed values ($1)", i)
		require.NoError(t, err)
		began := time.Now()
		collect(t, session, 1)
		fastest = min(fastest, time.Since(began))
	}
	require.Less(t, fastest, 20*time.Millisecond, "gathering must not delay a lonely change")
}

func TestMarkerArrivesFromEveryVersion(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 13, 15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := prepare(t, pgtest.Server(t, pgtest.Major(major)))
			session := b.open(t)
			content := b.Spec.ID.Short() + "/marker/1/1"
			_, err := slot.Emit(t.Context(), b.Connect(t, b.Source), b.config.Version, content)
			require.NoError(t, err)
			tx := collect(t, session, 1)[0]
			require.Equal(t, wal.Message, tx.Changes[len(tx.Changes)-1].Op)
			require.Equal(t, content, string(tx.Changes[len(tx.Changes)-1].Content))
			b.From.Exec(t, "insert into keyed values (1); truncate keyed; insert into keyed values (2)")
			require.Equal(t, wal.Insert, collect(t, session, 2)[0].Changes[0].Op)
			session.Close()
			b.Drop(t)
			require.Zero(t, pgtest.Value[int](t, b.From, "select count(*) from pg_namespace where nspname = 'dts_sync'"))
		})
	}
}

// What the server cannot send is said, and nothing of it is taken for sent.
func TestRowBeyondTheServersLimitIsNamed(t *testing.T) {
	b := prepare(t, pgtest.Server(t))
	session := b.open(t)
	b.From.Exec(t, "alter table keyed add b bytea; alter table keyed alter b set storage external; insert into keyed values (1)")
	b.From.Exec(t, "insert into keyed select 2, 'x', convert_to(repeat('x', 600000000), 'UTF8')")
	for rows := 0; ; {
		batch, err := session.Next(t.Context(), limits)
		if err != nil {
			require.Contains(t, slottest.MustFault(t, migration.FaultOther, err).Hint, "longer than 1 GB")
			require.Equal(t, 1, rows)
			return
		}
		for _, tx := range batch.Transactions {
			rows += len(tx.Changes)
		}
	}
}
