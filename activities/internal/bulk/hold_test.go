package bulk_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/bulk"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// newHeldBench is a migration without incremental: nothing is known of the source before a snapshot is held.
func newHeldBench(t *testing.T, from *pgserver.Server, ddl string) *bench {
	t.Helper()
	b := newBenchOn(t, from, pgtest.Shared(t), ddl)
	b.config.Spec.Types = []migration.Type{migration.TypeSchema, migration.TypeFull}
	b.config.ChunkBytes = 64 << 10
	b.target.Exec(t, "update dts_sync.migration set source_sysid = null, source_timeline = null, start_lsn = null, start_snapshot = null")
	return b
}

// hold holds a snapshot in the background, once; the channel has what ended it.
func (b *bench) hold(ctx context.Context) <-chan error {
	b.Helper()
	lane := b.lane("snapshot")
	ended := make(chan error, 1)
	go func() { ended <- bulk.Hold(ctx, b.config, lane, quiet) }()
	return ended
}

// epochIs waits until the snapshot of an epoch is held.
func (b *bench) epochIs(epoch int) {
	b.Helper()
	b.target.WaitUntil(b, fmt.Sprintf("select snapshot_epoch = %d and snapshot_name is not null from dts_sync.migration", epoch))
}

// loseSnapshot ends the holder's session on the source, and sees the holder say so.
func (b *bench) loseSnapshot(ended <-chan error) {
	b.Helper()
	b.source.Exec(b, `select pg_terminate_backend(pid) from pg_stat_activity
		where application_name like '%/snapshot/%' and datname = current_database()`)
	b.mustBeLost(<-ended)
}

func (b *bench) mustBeLost(err error) {
	b.Helper()
	fault, ok := migration.AsFault(err)
	require.True(b, ok, "%v", err)
	require.Equal(b, migration.FaultConnection, fault.Kind, fault.Error())
	require.Equal(b, migration.Source, fault.Side)
}

// accounts are two tables whose sum never changes, in any snapshot.
const accounts = `
create table a (id int primary key, v int, pad text); create table b (id int primary key, v int, pad text);
create table keyless (v int); create table none (id int primary key, v int); alter table none replica identity nothing`

func (b *bench) fillAccounts() {
	b.Helper()
	b.source.Exec(b, `insert into a select g, 100, repeat('x', 300) from generate_series(1, 4000) g;
		insert into b select g, 100, repeat('x', 300) from generate_series(1, 4000) g;
		insert into keyless values (0); insert into none select g, 0 from generate_series(1, 100) g`)
}

// transfer moves money between the tables, and counts in the others, until ctx ends.
func (b *bench) transfer(ctx context.Context) *errgroup.Group {
	b.Helper()
	var writers errgroup.Group
	for n := range 2 {
		conn := b.source.Conn(b)
		writers.Go(func() error {
			for i := n; ctx.Err() == nil; i += 2 {
				_, err := conn.Exec(b.Context(), fmt.Sprintf(`begin; update a set v = v - 1 where id = %d; update b set v = v + 1 where id = %d;
					update keyless set v = v + 1; update none set v = v + 1 where id = %d; commit`, i*7919%4000+1, i*104729%4000+1, i%100+1))
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return &writers
}

// mustBeOneMoment sees that all chunks were read under one snapshot, and that the rows say so too.
func (b *bench) mustBeOneMoment(epoch int) {
	b.Helper()
	require.Equal(b, [][]string{{"8000", "800000", "t"}}, b.target.Query(b, `select count(*), sum(v),
		(select sum(100 - v) from a) = (select v from keyless) and (select v from keyless) = (select sum(v) from none)
		from (select v from a union all select v from b) x`))
	require.Equal(b, "1", b.target.Query(b, "select count(distinct snap) from dts_sync.chunk")[0][0])
	require.Equal(b, "0", b.target.Query(b, "select count(*) from dts_sync.chunk c join dts_sync.migration m on m.id = migration where c.snap <> m.start_snapshot")[0][0])
	require.Equal(b, "0", b.target.Query(b, "select count(*) from dts_sync.tbl where stage <> 'exact' or smin <> smax")[0][0])
	require.Equal(b, fmt.Sprint(epoch), b.target.Query(b, "select snapshot_epoch from dts_sync.migration")[0][0])
}

func TestAllTablesAreOfOneMoment(t *testing.T) {
	t.Parallel()
	b := newHeldBench(t, pgtest.Shared(t), accounts)
	b.fillAccounts()
	ctx, stop := context.WithCancel(t.Context())
	writers := b.transfer(ctx)
	ended := b.hold(t.Context())
	b.epochIs(1)
	require.Greater(t, b.plan().Chunks, 20)
	require.Equal(t, "keyrange", b.target.Query(t, "select mode from dts_sync.tbl where name = 'none'")[0][0], "nothing streams, so a key is enough")
	b.copy(2)
	stop()
	require.NoError(t, writers.Wait())
	b.mustBeOneMoment(1)
	require.NoError(t, <-ended, "the snapshot has served")
	require.Equal(t, "0", b.source.Query(t, "select count(*) from pg_stat_activity where application_name like '%/snapshot/%' and datname = current_database()")[0][0])

	require.NoError(t, <-b.hold(t.Context()), "nothing is left to copy")
	b.mustBeOneMoment(1)
}

func TestLostSnapshotTakesTheCopyWithIt(t *testing.T) {
	t.Parallel()
	b := newHeldBench(t, pgtest.Shared(t), accounts)
	b.fillAccounts()
	ctx, stop := context.WithCancel(t.Context())
	writers := b.transfer(ctx)
	b.plan()
	ended := b.hold(t.Context())
	lanes := []<-chan error{b.start(t.Context(), b.lane("copy-0")), b.start(t.Context(), b.lane("copy-1"))}
	for epoch := range 3 {
		b.epochIs(epoch + 1)
		b.target.WaitUntil(t, fmt.Sprintf("select count(*) > %d from dts_sync.chunk where state = 'done'", 3+epoch*3))
		b.loseSnapshot(ended)
		ended = b.hold(t.Context())
	}
	for _, lane := range lanes {
		require.NoError(t, <-lane)
	}
	stop()
	require.NoError(t, writers.Wait())
	b.mustBeOneMoment(4)
	require.NoError(t, <-ended)
	require.Equal(t, "0", b.target.Query(t, "select count(*) from dts_sync.chunk where failed_at is not null")[0][0], "a lost snapshot is no failure of a chunk")
}

func TestChunkOfALostSnapshotNeverCommits(t *testing.T) {
	t.Parallel()
	b := newHeldBench(t, pgtest.Shared(t), "create table t (a int primary key, pad text)")
	b.source.Exec(t, "insert into t select g, repeat('x', 300) from generate_series(1, 1000) g")
	b.config.ChunkBytes = 0
	require.Equal(t, 1, b.plan().Chunks)
	ended := b.hold(t.Context())
	b.epochIs(1)
	// The lane has read under the first snapshot and waits for the target's table.
	blocker, err := b.target.Conn(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = blocker.Exec(t.Context(), "lock table t in exclusive mode")
	require.NoError(t, err)
	lane := b.start(t.Context(), b.lane("copy-0"))
	b.target.WaitUntil(t, "select exists (select from pg_locks where relation = 't'::regclass and not granted)")
	b.source.Exec(t, "update t set pad = 'new'")
	b.loseSnapshot(ended)
	ended = b.hold(t.Context())
	b.epochIs(2)
	require.NoError(t, blocker.Rollback(t.Context()))
	require.NoError(t, <-lane)
	require.NoError(t, <-ended)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "t", b.target.Query(t, "select snap = start_snapshot from dts_sync.chunk join dts_sync.migration on id = migration")[0][0])
}

func TestTableEmptiedAfterTheSnapshotIsNotTakenForEmpty(t *testing.T) {
	t.Parallel()
	for _, change := range []string{
		"truncate t; insert into t select generate_series(1, 7)",
		"alter table t add v int default 1; update t set v = 2; vacuum full t; alter table t drop v",
		"alter table t alter a type bigint; alter table t alter a type int",
	} {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			b := newHeldBench(t, pgtest.Shared(t), "create table t (a int primary key)")
			b.source.Exec(t, "insert into t select generate_series(1, 1000)")
			ended := b.hold(t.Context())
			b.epochIs(1)
			for _, statement := range splitStatements(change) {
				b.source.Exec(t, statement)
			}
			b.plan()
			lane := b.start(t.Context(), b.lane("copy-0"))
			b.mustBeLost(<-ended)
			ended = b.hold(t.Context())
			require.NoError(t, <-lane)
			require.NoError(t, <-ended)
			pgtest.MustEqual(t, b.source, b.target)
			require.Equal(t, "2", b.target.Query(t, "select snapshot_epoch from dts_sync.migration")[0][0])
		})
	}
}

// Under the old snapshot a table that took another's name is empty, and the old name still seems to be the old table's.
func TestTableThatTookAnothersNameIsNoticed(t *testing.T) {
	t.Parallel()
	for _, change := range []string{
		"alter table t rename to old; create table t (a int primary key, b int)",
		"alter table t rename a to c; alter table t rename b to a; alter table t rename c to b",
		"alter table t add c int", "drop table t",
	} {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			b := newHeldBench(t, pgtest.Shared(t), "create table t (a int primary key, b int)")
			b.source.Exec(t, "insert into t select g, -g from generate_series(1, 100) g")
			b.plan()
			ctx, stop := context.WithCancel(t.Context())
			ended := b.hold(ctx)
			b.epochIs(1)
			b.source.Exec(t, change)
			fault := b.fails()
			require.Equal(t, migration.FaultDrift, fault.Kind, fault.Error())
			require.Equal(t, "0", b.target.Query(t, "select count(*) from t")[0][0])
			stop()
			require.ErrorIs(t, <-ended, context.Canceled)
		})
	}
}

func TestHolderThatDiesAnywhereIsFollowed(t *testing.T) {
	t.Parallel()
	b := newHeldBench(t, pgtest.Shared(t), accounts)
	b.fillAccounts()
	b.plan()
	ended := b.hold(t.Context())
	b.epochIs(1)
	lane := b.start(t.Context(), b.lane("copy-0"))
	b.target.WaitUntil(t, "select count(*) > 5 from dts_sync.chunk where state = 'done'")
	b.loseSnapshot(ended)
	epochs := 1
	for after := range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		err := bulk.Hold(ctx, b.config, b.lane("snapshot"), func(migration.Beat) {
			if after--; after < 0 {
				cancel()
			}
		})
		cancel()
		require.ErrorIs(t, err, context.Canceled)
		epochs++
		require.NotEqual(t, "0", b.target.Query(t, "select count(*) from dts_sync.chunk where state = 'todo'")[0][0], "the copy would look complete")
	}
	ended = b.hold(t.Context())
	require.NoError(t, <-lane)
	require.NoError(t, <-ended)
	b.mustBeOneMoment(epochs + 1)
}

func TestSnapshotIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	b := newHeldBench(t, pgtest.Shared(t), "create table t (a int primary key)")
	b.source.Exec(t, "insert into t values (1)")
	b.plan()
	b.config.SnapshotWait = 300 * time.Millisecond
	fault := b.fails()
	require.Equal(t, migration.FaultConnection, fault.Kind)
	require.Equal(t, migration.Source, fault.Side)
	require.Equal(t, "0", b.target.Query(t, "select attempts from dts_sync.chunk")[0][0])
}

func TestLostSnapshotLeavesRowsOfOthersAlone(t *testing.T) {
	t.Parallel()
	b := newHeldBench(t, pgtest.Shared(t), "create table found (a int primary key, pad text); create table mixed (a int primary key, pad text); create table last (a int primary key)")
	b.source.Exec(t, `insert into found select g, repeat('x', 300) from generate_series(1, 1000) g;
		insert into mixed select g, repeat('x', 300) from generate_series(1, 1000) g; insert into last values (1)`)
	b.target.Exec(t, "insert into mixed values (-1, 'theirs'); delete from dts_sync.object; alter table last add check (a > 1) not valid")
	b.config.Spec.Conflict = migration.ConflictIgnore
	b.plan()
	b.change("found", func(t *ledger.Table) { t.Keep, t.WasEmpty = false, true })
	b.change("last", func(t *ledger.Table) { t.Keep, t.WasEmpty = false, true })
	ended := b.hold(t.Context())
	lane := b.start(t.Context(), b.lane("copy-0"))
	b.target.WaitUntil(t, "select count(*) = 0 from dts_sync.chunk join dts_sync.tbl using (migration, relid) where state = 'todo' and name <> 'last'")
	b.loseSnapshot(ended)
	fault, ok := migration.AsFault(<-b.hold(t.Context()))
	require.True(t, ok)
	require.Equal(t, migration.FaultDrift, fault.Kind, fault.Error())
	require.Equal(t, "1001", b.target.Query(t, "select count(*) from mixed")[0][0])
	b.target.Exec(t, "truncate mixed; insert into found values (-2, 'not ours, but found after')")
	b.target.Exec(t, "alter table last drop constraint last_a_check")
	ended = b.hold(t.Context())
	require.NoError(t, <-lane)
	require.NoError(t, <-ended)
	pgtest.MustEqual(t, b.source, b.target)
}

func TestSnapshotOfOlderServersWithoutLogicalLog(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 14, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			server := pgtest.Server(t, pgtest.Major(major), pgtest.Setting("wal_level", "replica"), pgtest.Setting("synchronous_commit", "off"))
			b := newHeldBench(t, server, accounts)
			b.fillAccounts()
			ctx, stop := context.WithCancel(t.Context())
			writers := b.transfer(ctx)
			ended := b.hold(t.Context())
			b.epochIs(1)
			b.plan()
			lane := b.start(t.Context(), b.lane("copy-0"))
			b.target.WaitUntil(t, "select count(*) > 3 from dts_sync.chunk where state = 'done'")
			b.loseSnapshot(ended)
			ended = b.hold(t.Context())
			require.NoError(t, <-lane)
			stop()
			require.NoError(t, writers.Wait())
			require.NoError(t, <-ended)
			b.mustBeOneMoment(2)
		})
	}
}

func TestStandbyAndAnotherServerHoldNothing(t *testing.T) {
	t.Parallel()
	b := newHeldBench(t, pgtest.Shared(t), "create table t (a int primary key)")
	b.plan()
	b.target.Exec(t, "update dts_sync.migration set source_sysid = '1'")
	fault, ok := migration.AsFault(<-b.hold(t.Context()))
	require.True(t, ok)
	require.Equal(t, migration.FaultWrongServer, fault.Kind)
}

// splitStatements lets each run outside a common transaction.
func splitStatements(text string) []string { return strings.Split(text, "; ") }
