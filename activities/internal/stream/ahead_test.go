package stream_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/activities/internal/stream"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// aheadLog is what a reader says who read ahead.
const aheadLog = "read ahead of the slot"

// reading is the session that sends a portion.
const reading = `from pg_stat_activity
	where datname = current_database() and state = 'active' and query like '%pg_logical_slot_get_binary_changes(%' and pid <> pg_backend_pid()`

// watched lets the reader read every backlog ahead, and shows what it says.
func (b *bench) watched(least int64) *observer.ObservedLogs {
	core, lines := observer.New(zapcore.InfoLevel)
	b.config.AheadBytes, b.config.Logger = least, zap.New(core)
	return lines
}

// reason is why reading ahead ended, if not because everything was read.
func reason(t *testing.T, lines *observer.ObservedLogs) any {
	t.Helper()
	require.Eventually(t, func() bool { return lines.FilterMessage(aheadLog).Len() == 1 }, 20*time.Second, 10*time.Millisecond)
	return lines.FilterMessage(aheadLog).All()[0].ContextMap()["because"]
}

// small commits transactions of one insertion and one update each.
func (b bench) small(t *testing.T, from, n int) {
	t.Helper()
	for i := from; i < from+n; i += 500 {
		var sql string
		for id := i; id < min(i+500, from+n); id++ {
			sql += fmt.Sprintf("begin; insert into keyed values (%d, 'x'); update keyed set v = 'y' where id = %d; commit;", id, id)
		}
		b.From.Exec(t, sql)
	}
}

// mark ends a backlog.
func (b bench) mark(t *testing.T) string {
	t.Helper()
	content := b.Spec.ID.Short() + "/marker/1/" + rand.Text()
	_, err := slot.Emit(t.Context(), b.Connect(t, b.Source), b.config.Version, content)
	require.NoError(t, err)
	return content
}

// until takes everything up to a marker.
func until(t *testing.T, session *stream.Session, marker string) (all []wal.Transaction) {
	t.Helper()
	for {
		all = append(all, next(t, session)...)
		for _, change := range all[len(all)-1].Changes {
			if string(change.Content) == marker {
				return all
			}
		}
	}
}

// plain is what the walsender alone sends of the same backlog.
func (b bench) plain(t *testing.T, marker string) []wal.Transaction {
	t.Helper()
	b.config.AheadBytes = -1
	session := b.open(t)
	defer session.Close()
	return until(t, session, marker)
}

func mustBeSame(t *testing.T, want, got []wal.Transaction) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i], got[i], "transaction %d", i)
	}
}

// What is read ahead is what the walsender would have sent, whatever happened in the log: the same transactions, whole, in the
// same order, at the same positions, with the same values.
func TestBacklogReadAheadIsWhatTheWalsenderSends(t *testing.T) {
	t.Parallel()
	for _, major := range []int{12, 13, 14, 15, 16, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := prepare(t, pgtest.Server(t, pgtest.Major(major), pgtest.Setting("max_prepared_transactions", "5")))
			long := b.From.Conn(t)
			b.small(t, 0, 1000)
			_, err := long.Exec(t.Context(), "begin; insert into aside values (-1, 'open for long')")
			require.NoError(t, err)
			b.From.Exec(t, "checkpoint")
			b.From.Exec(t, "alter table keyed add b text, add n numeric, add a int[], add at timestamptz; alter table keyed alter b set storage external")
			b.From.Exec(t, "insert into keyed select g, 'wide', repeat(md5(g::text), 100), g / 7.0, array[g, null], now() from generate_series(5001, 6000) g")
			for _, sql := range []string{
				"update keyed set n = n + 1 where id between 5001 and 5500", // what is TOASTed is not sent
				"update keyed set b = null, at = 'infinity' where id between 5400 and 5600",
				"update keyed set id = -id where id between 5990 and 6000",
				"delete from keyed where id between 5700 and 5800",
				"begin; insert into aside values (7001, 'prepared'); prepare transaction 'ahead'",
				"checkpoint",
				"do $$ begin for i in 1..300 loop begin insert into keyed values (8000 + i); if i % 3 = 0 then raise 'no'; end if; exception when raise_exception then null; end; end loop; end $$",
				"alter table keyed alter id type bigint",
				"commit prepared 'ahead'",
			} {
				b.From.Exec(t, sql)
			}
			b.small(t, 1000000, 1000)
			_, err = long.Exec(t.Context(), "update aside set v = v || '!'; update keyed set v = v || '!' where id < 100; commit")
			require.NoError(t, err)
			b.From.Exec(t, "truncate keyed")
			b.small(t, 2000000, 1000)
			marker := b.mark(t)

			lines := b.watched(32 << 10)
			session := b.open(t)
			got := until(t, session, marker)
			require.Nil(t, reason(t, lines))
			b.small(t, 3000000, 10)
			last := b.mark(t)
			got = append(got, until(t, session, last)...) // from the walsender
			session.Close()
			mustBeSame(t, b.plain(t, last), got)
			require.Greater(t, len(got), 3000)
			require.Zero(t, pgtest.Value[int](t, b.From, "select count(*) from pg_replication_slots where temporary"))
		})
	}
}

// What was applied before is in the copy of a slot that was not told yet.
func TestReadingAheadBeginsAtThePosition(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	b.small(t, 0, 1000)
	marker := b.mark(t)
	all := b.plain(t, marker)
	b.config.Start = all[400].End
	lines := b.watched(1)
	mustBeSame(t, all[401:], until(t, b.open(t), marker))
	require.Nil(t, reason(t, lines))
}

// A transaction that is too large to be taken whole is left to the walsender, with everything after it.
func TestHugeTransactionIsNotReadAhead(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	b.config.BudgetBytes = 1 << 20
	b.small(t, 0, 300)
	b.From.Exec(t, "insert into keyed select g, repeat('x', 100) from generate_series(100001, 120000) g")
	b.small(t, 1000, 300)
	marker := b.mark(t)
	lines := b.watched(1)
	session := b.open(t)
	got := until(t, session, marker)
	session.Close()
	require.Contains(t, reason(t, lines), "larger than a part")
	mustBeSame(t, b.plain(t, marker), got)
}

// A session that ends amid a portion costs nothing: the walsender goes on after the last transaction that was whole.
func TestReadingAheadThatBreaksOffLosesNothing(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Server(t, pgtest.Setting("wal_sender_timeout", "2s")))
	b.config.BudgetBytes = 2 << 20
	for i := range 500 { // beyond what sockets take
		b.From.Exec(t, fmt.Sprintf("insert into keyed select %d + g, repeat('x', 500) from generate_series(1, 100) g", 1000*i))
	}
	marker := b.mark(t)
	lines := b.watched(30 << 20)
	session := b.open(t)
	got := next(t, session)
	time.Sleep(4 * time.Second) // a target that stands still; the walsender that nobody reads from is kept
	require.Equal(t, 1, pgtest.Value[int](t, b.From, "select count(*) "+reading))
	session.Confirm(got[len(got)-1].End)
	b.From.WaitUntil(t, fmt.Sprintf("select confirmed_flush_lsn = '%s' from pg_replication_slots where slot_name = '%s'", got[len(got)-1].End, b.config.Slot))
	require.Equal(t, 1, pgtest.Value[int](t, b.From,
		"select count(pg_terminate_backend(pid)) "+reading))
	got = append(got, until(t, session, marker)...)
	require.NotNil(t, reason(t, lines))
	session.Close()
	want := b.plain(t, marker) // what was confirmed does not come again
	require.Less(t, len(want), len(got))
	mustBeSame(t, want, got[len(got)-len(want):])
}

// While a long backlog is read, the source can forget what is durable on the target, on every version.
func TestReadingAheadLetsTheSourceForget(t *testing.T) {
	t.Parallel()
	for _, major := range []int{12, 15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := prepare(t, pgtest.Server(t, pgtest.Major(major)))
			b.config.BudgetBytes = 64 << 10
			before := pgtest.Value[string](t, b.From, "select restart_lsn::text from pg_replication_slots where slot_name = $1", b.config.Slot)
			for i := range 10 {
				b.small(t, 1000*i, 1000)
				b.From.Exec(t, "checkpoint") // logs what is running, as the server does all 15 seconds
			}
			marker := b.mark(t)
			lines := b.watched(1)
			session := b.open(t)
			const forget = "lets the source forget its log"
			id, moved := 0, false
			for done := false; !done; {
				for _, tx := range next(t, session) {
					done = len(tx.Changes) > 0 && string(tx.Changes[0].Content) == marker
					if !done && len(tx.Changes) > 0 {
						require.Equal(t, fmt.Sprint(id), string(tx.Changes[0].New[0].Data), "none is missing, none comes twice")
						id++
					}
					session.Confirm(tx.End)
				}
				if !moved && id > 5000 {
					require.Zero(t, lines.FilterMessage(aheadLog).Len(), "it was all read too early")
					b.From.WaitUntil(t, fmt.Sprintf("select restart_lsn > '%s' from pg_replication_slots where slot_name = '%s'", before, b.config.Slot))
					moved = true
				}
			}
			require.True(t, moved)
			require.Equal(t, 10000, id)
			require.Nil(t, reason(t, lines))
			require.Greater(t, lines.FilterMessage(forget).Len(), 2)
		})
	}
}

// A source that shuts down does not wait for one who reads ahead.
func TestSourceGoesDownWhileItIsReadAhead(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	b := prepare(t, server)
	b.config.BudgetBytes = 256 << 10
	b.small(t, 0, 5000)
	_ = b.watched(1 << 20)
	session := b.open(t)
	next(t, session)
	stopped := make(chan error, 1)
	go func() { stopped <- server.Stop(pgserver.Fast) }()
	for {
		if _, err := session.Next(t.Context(), limits); err != nil {
			_ = slottest.MustFault(t, migration.FaultConnection, err)
			break
		}
	}
	session.Close()
	select {
	case err := <-stopped:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "it waits")
	}
}

// Whoever cannot have a copy of the slot reads from the slot.
func TestSlotThatCannotBeCopiedIsReadByTheWalsender(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]struct {
		major, slots int
		because      string
	}{
		"no slot left":       {major: 15, slots: 1, because: "all replication slots are in use"},
		"waits for standbys": {major: 18, slots: 10, because: "waits for standbys"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := prepare(t, pgtest.Server(t, pgtest.Major(refuse.major), pgtest.Setting("max_replication_slots", fmt.Sprint(refuse.slots))))
			b.small(t, 0, 100)
			lines := b.watched(1)
			if refuse.major >= 17 { // it is a slot that standbys keep, and now one has to
				b.From.Exec(t, "select pg_create_physical_replication_slot('standby')")
				b.From.Exec(t, "alter system set synchronized_standby_slots = 'standby'")
				b.From.Exec(t, "select pg_reload_conf()")
				b.From.WaitUntil(t, "select current_setting('synchronized_standby_slots') <> ''")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			session, came := b.open(t), 0
			for ctx.Err() == nil && came == 0 {
				batch, err := session.Next(ctx, limits)
				require.True(t, err == nil || ctx.Err() != nil)
				came = len(batch.Transactions)
			}
			require.Equal(t, refuse.major >= 17, came == 0, "nothing comes before the standby has it")
			require.Contains(t, reason(t, lines), refuse.because)
		})
	}
}

// Where several hosts are named, another server may answer a moment later, and have a slot of that name.
func TestOnlyTheServerOfTheWalsenderIsReadAhead(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	b.small(t, 0, 200)
	marker := b.mark(t)
	want := b.plain(t, marker)
	asked := []string{}
	b.config.Recognise = func(system string, timeline int) error {
		asked = append(asked, fmt.Sprint(system, "/", timeline))
		if len(asked) == 2 {
			return errors.New("it is another one")
		}
		return nil
	}
	lines := b.watched(1)
	mustBeSame(t, want, until(t, b.open(t), marker))
	require.Contains(t, reason(t, lines), "another one")
	require.Len(t, asked, 2)
	require.Equal(t, asked[0], asked[1], "told in the same words")
}

// A second attempt ends what the first one left on the source, also while that one reads ahead.
func TestLaterSessionEndsOneThatReadsAhead(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	b.config.BudgetBytes = 256 << 10
	b.small(t, 0, 5000)
	marker := b.mark(t)
	_ = b.watched(1 << 20)
	earlier := b.open(t)
	next(t, earlier)
	b.From.WaitUntil(t, "select count(*) = 1 from pg_replication_slots where temporary and database = current_database()")
	lane := b.Enter(t, "stream")
	require.NoError(t, lane.TerminateEarlier(t.Context(), b.Connect(t, b.Source)))
	b.config.Session = lane.Session()
	later := b.open(t)
	require.GreaterOrEqual(t, len(until(t, later, marker)), 5000)
	var err error
	require.Eventually(t, func() bool {
		_, err = earlier.Next(t.Context(), stream.Limits{Changes: 1000, Bytes: 1 << 20, Wait: 10 * time.Millisecond})
		return err != nil
	}, 20*time.Second, time.Millisecond, "it goes on")
	fault, ok := migration.AsFault(err)
	require.True(t, ok)
	if fault.Kind == migration.FaultOther { // it came too late for the slot, and takes nothing back
		require.Contains(t, fault.Hint, lane.Session())
	} else {
		require.Equal(t, migration.FaultConnection, fault.Kind) // it was ended
	}
	b.small(t, 10000, 10)
	until(t, later, b.mark(t))
}

func TestCloseEndsReadingAhead(t *testing.T) {
	t.Parallel()
	b := prepare(t, pgtest.Shared(t))
	b.config.BudgetBytes = 256 << 10
	b.small(t, 0, 5000)
	_ = b.watched(1 << 20)
	session := b.open(t)
	end := next(t, session)[0].End
	session.Confirm(end)
	began := time.Now()
	session.Close()
	require.Less(t, time.Since(began), 3*time.Second)
	require.Equal(t, end.String(), b.flushed(t))
	b.From.WaitUntil(t, "select count(*) = 0 from pg_replication_slots where temporary and database = current_database()")
	require.False(t, pgtest.Value[bool](t, b.From, "select active from pg_replication_slots where slot_name = $1", b.config.Slot))
}
