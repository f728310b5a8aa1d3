package bulk_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/tests/pgtest"
)

// numbered makes tables t1, t2, … on both sides, of which each n-th holds rows.
func (b *bench) numbered(tables, filled int) {
	b.Helper()
	const each = "do $$ begin for i in %d..%d loop execute format('%s', i); end loop; end $$"
	for from := 1; from <= tables; from += 100 {
		to := min(tables, from+99)
		for _, db := range []*pgtest.DB{b.source, b.target} {
			db.Exec(b, fmt.Sprintf(each, from, to, "create table t%s (a int primary key, b text)"))
		}
		b.source.Exec(b, fmt.Sprintf("do $$ begin for i in %d..%d loop if i %% %d = 0 then execute format('%s', i); end if; end loop; end $$",
			from, to, filled, "insert into t%s select g, repeat(''x'', g) from generate_series(1, 20) g"))
	}
	b.made()
}

// commits counts the transactions of a database that have committed.
func commits(t *testing.T, db *pgtest.DB) int {
	t.Helper()
	return pgtest.Value[int](t, db, "select xact_commit from pg_stat_database where datname = current_database()")
}

func TestManySmallTablesTakeFewTransactions(t *testing.T) {
	t.Parallel()
	const tables = 500
	b := newBench(t, "")
	b.numbered(tables, 10)
	require.Equal(t, tables, b.plan().Chunks)
	source, target := commits(t, b.source), commits(t, b.target)
	b.copy(2)
	source, target = commits(t, b.source)-source, commits(t, b.target)-target
	t.Logf("%d transactions on the source, %d on the target", source, target)
	require.Less(t, source, tables/2)
	require.Less(t, target, tables/2)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, [][]string{{fmt.Sprint(tables), "t"}}, b.target.Query(t, `select count(*), bool_and(stage = 'band' and smin = smax and smin = snap and hi_lsn = snap_lsn
		and finisher is null and attempts = 1 and rows = case when no_of % 10 = 0 then 20 else 0 end)
		from (select *, substr(name, 2)::int as no_of from dts_sync.tbl join dts_sync.chunk using (migration, relid)) t`))
	require.Len(t, b.finisher.keys, tables)
	for relid, calls := range b.finisher.keys {
		require.Equal(t, 1, calls, relid)
	}
}

// What a session on the target has seen cannot be cleaned up behind it. An index build of hours is such a session.
func TestClaimsDoNotPassEverythingThatIsDone(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key, b text)")
	b.source.Exec(t, "insert into t select g, 'x' from generate_series(1, 300) g; analyze t")
	b.config.ChunkBytes = 40
	chunks := b.plan().Chunks
	require.Greater(t, chunks, 250)
	old, err := b.target.Conn(t).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	_, err = old.Exec(t.Context(), "select count(*) from dts_sync.chunk")
	require.NoError(t, err)
	b.copy(1)
	require.NoError(t, old.Rollback(t.Context()))
	pgtest.MustEqual(t, b.source, b.target)
	for _, row := range b.target.Query(t, "select indexrelname, idx_tup_read from pg_stat_user_indexes where indexrelname in ('chunk_todo', 'chunk_pkey')") {
		t.Logf("%s: %s entries read for %d chunks", row[0], row[1], chunks)
	}
	// Half of the square, and for each version of a row again, is what claims that begin at the beginning read. A look back each
	// second is far from that.
	require.Less(t, pgtest.Value[int](t, b.target, "select max(idx_tup_read) from pg_stat_user_indexes where schemaname = 'dts_sync' and relname = 'chunk'"),
		chunks*chunks/4)
}

func TestLockedTableKeepsNoSmallOneFromBeingCopied(t *testing.T) {
	t.Parallel()
	b := newBench(t, "")
	b.numbered(5, 1)
	b.config.LockTimeout = 300 * time.Millisecond
	b.plan()
	tx, err := b.source.Conn(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "lock table t2 in access exclusive mode")
	require.NoError(t, err)
	ended := b.start(t.Context(), b.lane("copy-0"))
	b.target.WaitUntil(t, "select count(*) filter (where stage = 'band') = 4 and bool_or(name = 't2' and stage = 'planned') from dts_sync.tbl")
	b.target.WaitUntil(t, "select bool_or(error like '%lock timeout%') from dts_sync.chunk")
	_, err = tx.Exec(t.Context(), "insert into t2 values (1000, 'y')")
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-ended)
	pgtest.MustEqual(t, b.source, b.target)
}

func TestSmallTablesThatWereClaimedByADeadLaneAreCopiedOneByOne(t *testing.T) {
	t.Parallel()
	b := newBench(t, "")
	b.numbered(6, 2)
	b.plan()
	dead := b.lane("copy-0")
	require.NoError(t, pgx.BeginFunc(t.Context(), b.book.Conn, func(tx pgx.Tx) error {
		first, found, err := ledger.ClaimChunk(t.Context(), tx, dead, 0)
		if err != nil || !found || !first.Fresh {
			return fmt.Errorf("claimed: %v, %v, %w", found, first.Fresh, err)
		}
		more, err := ledger.ClaimSmall(t.Context(), tx, dead, first.Ord, 1<<20, 3)
		if len(more) != 3 {
			return fmt.Errorf("%d more: %w", len(more), err)
		}
		return err
	}))
	b.copy(1)
	pgtest.MustEqual(t, b.source, b.target)
	// Each transaction has its mark: two tables went together, four alone.
	require.Equal(t, [][]string{{"1"}, {"1"}, {"1"}, {"1"}, {"2"}}, b.target.Query(t, "select count(*) from dts_sync.chunk group by xmin::text order by 1"))
	require.Equal(t, "1", b.target.Query(t, "select sum(attempts) - count(*) from dts_sync.chunk")[0][0], "what was lost is one attempt")
}

func TestTableThatGrewSinceThePlanIsCopiedAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, "")
	b.numbered(4, 2)
	b.plan()
	b.source.Exec(t, "insert into t3 select g, repeat('x', 900) from generate_series(1, 3000) g")
	b.copy(1)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, [][]string{{"t1,t2,t4"}, {"t3"}}, b.target.Query(t, "select string_agg(name, ',' order by name) from dts_sync.chunk c join dts_sync.tbl using (migration, relid) group by c.xmin::text order by 1"))
	require.Len(t, b.finisher.keys, 4)
}

func TestSmallTablesTogetherMissNothingThatTheSlotSaw(t *testing.T) {
	t.Parallel()
	b := newBench(t, "")
	b.numbered(3, 2)
	b.plan()
	tx, err := b.source.Conn(t).Begin(t.Context())
	require.NoError(t, err)
	var xid int64
	require.NoError(t, tx.QueryRow(t.Context(), "select txid_current()").Scan(&xid))
	_, err = tx.Exec(t.Context(), "insert into t1 values (2)")
	require.NoError(t, err)
	b.slotSees(fmt.Sprintf("%d:%d:", xid+1, xid+1))
	b.config.GuardMax = 200 * time.Millisecond
	ended := b.start(t.Context(), b.lane("copy-0"))
	b.target.WaitUntil(t, "select bool_and(error like '%looks unfinished%') from dts_sync.chunk")
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-ended)
	pgtest.MustEqual(t, b.source, b.target)
}

// A table that is truncated after the snapshot shows no row under it, and looks as if it had been empty.
func TestSmallTableThatWasTruncatedSinceTheSnapshotIsNotTakenForEmpty(t *testing.T) {
	t.Parallel()
	b := newHeldBench(t, pgtest.Shared(t), "")
	b.numbered(5, 1)
	b.plan()
	first := b.hold(t.Context())
	b.epochIs(1)
	b.source.Exec(t, "truncate t4; insert into t4 values (7, 'after')")
	ended := b.start(t.Context(), b.lane("copy-0"))
	b.mustBeLost(<-first)
	second := b.hold(t.Context())
	require.NoError(t, <-ended)
	require.NoError(t, <-second)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, [][]string{{"5", "1"}}, b.target.Query(t, "select count(*), count(distinct smin) from dts_sync.tbl where stage = 'exact'"))
}
