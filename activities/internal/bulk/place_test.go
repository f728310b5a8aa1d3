package bulk_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// scattered is a table whose keys say nothing of where its rows are, one without a key, and one with ranges of its key.
const scattered = `
create table random (id uuid primary key, v int, pad text);
create table keyless (v int, pad text);
create table ranges (id int primary key, v int, pad text)`

func newScatteredBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, scattered)
	b.source.Exec(t, `insert into random select md5(g::text)::uuid, 100, repeat('x', 300) from generate_series(1, 4000) g;
		insert into keyless select 100, repeat('x', 300) from generate_series(1, 4000) g;
		insert into ranges select g, 100, repeat('x', 300) from generate_series(1, 4000) g`)
	b.config.ChunkBytes = 64 << 10
	return b
}

// churn moves rows about, in all tables, without changing what they add up to.
func (b *bench) churn(ctx context.Context) *errgroup.Group {
	b.Helper()
	var writers errgroup.Group
	for n := range 2 {
		conn := b.source.Conn(b)
		writers.Go(func() error {
			for i := n; ctx.Err() == nil; i += 2 {
				_, err := conn.Exec(b.Context(), fmt.Sprintf(`begin;
					update random set v = v - 1 where id = md5('%[1]d')::uuid; update random set v = v + 1 where id = md5('%[2]d')::uuid;
					with moved as (delete from keyless where ctid = (select min(ctid) from keyless) returning *) insert into keyless select * from moved; commit`, i*7919%4000+1, i*104729%4000+1))
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return &writers
}

// mustBeWhole sees that a table is of one snapshot, in the ledger and by its rows.
func (b *bench) mustBeWhole(table string, epoch int) {
	b.Helper()
	require.Equal(b, [][]string{{"onesnap", "t", "band", "t", "1", fmt.Sprint(epoch)}}, b.target.Query(b, `
		select t.mode, t.held, t.stage, t.smin = t.smax, count(distinct c.snap), t.snapshot_epoch
		from dts_sync.tbl t join dts_sync.chunk c using (migration, relid) where t.name = $1 group by 1, 2, 3, 4, 6`, table))
	require.Equal(b, "400000", b.target.Query(b, "select sum(v) from "+table)[0][0])
}

func TestScatteredKeysAreCopiedByPlaceUnderOneSnapshot(t *testing.T) {
	t.Parallel()
	b := newScatteredBench(t)
	ctx, stop := context.WithCancel(t.Context())
	writers := b.churn(ctx)
	require.Greater(t, b.plan().Chunks, 50)
	b.copy(3)
	stop()
	require.NoError(t, writers.Wait())
	b.mustBeWhole("random", 1)
	b.mustBeWhole("keyless", 1)
	require.Equal(t, "keyrange", b.target.Query(t, "select mode from dts_sync.tbl where name = 'ranges'")[0][0])
	require.Equal(t, "0", b.source.Query(t, `select count(*) from pg_stat_activity where application_name like 'pgdts/%' and datname = current_database()`)[0][0])
}

// loseHolders ends the sessions that hold snapshots and do nothing else.
func (b *bench) loseHolders(most int) {
	b.Helper()
	b.source.WaitUntil(b, fmt.Sprintf(`select count(pg_terminate_backend(pid)) > 0 from (select pid from pg_stat_activity
		where query like '%%pg_export_snapshot()%%' and state = 'idle in transaction' and datname = current_database() limit %d) x`, most))
}

func TestLostSnapshotOfATableTakesThatTableAlone(t *testing.T) {
	t.Parallel()
	b := newScatteredBench(t)
	b.source.Exec(t, "insert into ranges select g, 100, repeat('x', 300) from generate_series(4001, 8000) g")
	gate := newGate()
	b.config.Gate = gate
	b.plan()
	done := "select count(*) filter (where name = 'ranges') = 0 and count(*) > %d from dts_sync.chunk join dts_sync.tbl using (migration, relid) where state = 'done' and name <> 'ranges'"
	b.target.Exec(t, "update dts_sync.chunk set ord = ord + 1000 where relid = (select relid from dts_sync.tbl where name = 'ranges')")
	lanes := []<-chan error{b.start(t.Context(), b.lane("copy-0")), b.start(t.Context(), b.lane("copy-1"))}
	for n := range 2 {
		b.target.WaitUntil(t, fmt.Sprintf(done, 3+n))
		b.loseHolders(2)
	}
	gate.open()
	for _, lane := range lanes {
		require.NoError(t, <-lane)
	}
	pgtest.MustEqual(t, b.source, b.target)
	epochs := b.target.Query(t, "select sum(snapshot_epoch) from dts_sync.tbl where held")
	require.Contains(t, []string{"3", "4"}, epochs[0][0])
	require.Equal(t, "0", b.target.Query(t, "select count(*) from dts_sync.chunk where failed_at is not null")[0][0], "a lost snapshot is no failure of a chunk")
	require.Equal(t, "1", b.target.Query(t, "select max(attempts) from dts_sync.chunk join dts_sync.tbl using (migration, relid) where name = 'ranges'")[0][0])
}

func TestSnapshotOutlivesOneOfItsHolders(t *testing.T) {
	t.Parallel()
	b := newScatteredBench(t)
	gate := newGate()
	b.config.Gate = gate
	b.plan()
	lanes := []<-chan error{b.start(t.Context(), b.lane("copy-0")), b.start(t.Context(), b.lane("copy-1"))}
	b.target.WaitUntil(t, "select bool_or(cardinality(snapshot_names) = 2) from dts_sync.tbl")
	b.loseHolders(1)
	gate.open()
	for _, lane := range lanes {
		require.NoError(t, <-lane)
	}
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "1", b.target.Query(t, "select max(snapshot_epoch) from dts_sync.tbl")[0][0])
}

func TestTableThatIsRewrittenUnderItsSnapshotBeginsAgain(t *testing.T) {
	t.Parallel()
	for _, change := range []string{"truncate random", "vacuum full random", "cluster random using random_pkey", "truncate random; insert into random select md5(g::text)::uuid, 1, 'new' from generate_series(1, 50) g"} {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			b := newScatteredBench(t)
			gate := newGate()
			b.config.Gate = gate
			b.plan()
			lane := b.start(t.Context(), b.lane("copy-0"))
			b.target.WaitUntil(t, "select count(*) > 3 from dts_sync.chunk join dts_sync.tbl using (migration, relid) where state = 'done' and name = 'random'")
			for _, statement := range splitStatements(change) {
				b.source.Exec(t, statement)
			}
			gate.open()
			require.NoError(t, <-lane)
			pgtest.MustEqual(t, b.source, b.target)
			require.Equal(t, "2", b.target.Query(t, "select snapshot_epoch from dts_sync.tbl where name = 'random'")[0][0])
		})
	}
}

func TestTableThatChangesUnderItsSnapshotIsNamed(t *testing.T) {
	t.Parallel()
	for _, change := range []string{
		"drop table random", "alter table random rename to other", "alter table random alter v type bigint",
		"alter table random add w int", "alter table random drop column pad", "alter table random rename v to w", "alter schema public rename to private",
	} {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			b := newScatteredBench(t)
			b.source.Exec(t, "drop table keyless, ranges")
			b.target.Exec(t, "drop table keyless, ranges")
			gate := newGate()
			b.config.Gate = gate
			b.plan()
			lane := b.start(t.Context(), b.lane("copy-0"))
			b.target.WaitUntil(t, "select count(*) > 3 from dts_sync.chunk where state = 'done'")
			b.source.Exec(t, change)
			gate.open()
			fault, ok := migration.AsFault(<-lane)
			require.True(t, ok)
			require.Equal(t, migration.FaultDrift, fault.Kind, fault.Error())
			require.Contains(t, fault.Object, "public.random")
			require.Equal(t, "planned", b.stage("random"))
		})
	}
}

func TestChunksHoldAboutTheSameBytes(t *testing.T) {
	t.Parallel()
	b := newBench(t, `
create table toasted (id int primary key, doc text); alter table toasted alter doc set storage external;
create table skewed (id bigint primary key, pad text);
create table sparse (id bigint primary key, pad text);
create table heavy (k text collate "C" primary key, doc text); alter table heavy alter doc set storage external;
create table pages (doc text); alter table pages alter doc set storage external`)
	b.source.Exec(t, `
insert into toasted select g, repeat('x', 40000) from generate_series(1, 400) g;
insert into skewed select case when g <= 19000 then g else (g - 19000)::bigint * 1000000000000 end, repeat('x', 400) from generate_series(1, 20000) g;
insert into sparse select g, repeat('x', 400) from generate_series(1, 40000) g; delete from sparse where id between 3000 and 33000;
insert into heavy select lpad(g::text, 6, '0'), case when g > 4500 then repeat('x', 40000) end from generate_series(1, 5000) g;
insert into pages select case when g > 9000 and g % 4 = 0 then repeat('x', 40000) else repeat('y', 200) end from generate_series(1, 10000) g;
analyze`)
	b.config.ChunkBytes = 1 << 20
	b.plan()
	b.copy(2)
	pgtest.MustEqual(t, b.source, b.target)
	for _, row := range b.target.Query(t, `select name, count(*), max(c.bytes)::float8 / avg(c.bytes)::float8 < 2, round(max(c.bytes)::numeric / avg(c.bytes)::numeric, 2)
		from dts_sync.chunk c join dts_sync.tbl using (migration, relid) group by 1 order by 1`) {
		t.Logf("%s: %s chunks, the largest has %s of the mean", row[0], row[1], row[3])
		require.NotEqual(t, "1", row[1], row[0])
		require.Equal(t, "t", row[2], "%s: the largest chunk has %s of the mean", row[0], row[3])
	}
}

func TestPagesAreNotUsedWhereTheServerReadsThemFromTheStart(t *testing.T) {
	t.Parallel()
	b := newBenchOn(t, pgtest.Server(t, pgtest.Major(13)), pgtest.Shared(t), scattered)
	b.source.Exec(t, `insert into random select md5(g::text)::uuid, 100, repeat('x', 300) from generate_series(1, 4000) g; insert into keyless select g, repeat('x', 300) from generate_series(1, 4000) g`)
	b.config.ChunkBytes = 64 << 10
	b.plan()
	require.Equal(t, [][]string{{"keyless", "onesnap", "1"}, {"random", "keyrange", "t"}}, b.target.Query(t, `select name, mode, case name when 'random' then (count(*) > 5)::text::char(1) else count(*)::text end
		from dts_sync.tbl join dts_sync.chunk using (migration, relid) where name <> 'ranges' group by 1, 2 order by 1`))
	b.copy(2)
	pgtest.MustEqual(t, b.source, b.target)
}

func TestHundredThousandChunksAreClaimedAsFastAsTen(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table few (id int primary key, pad text); create table many (pad text)")
	b.source.Exec(t, "insert into few select g, repeat('x', 300) from generate_series(1, 2000) g; insert into many select repeat('x', 300) from generate_series(1, 100) g")
	b.config.ChunkBytes = 16 << 10
	b.plan()
	b.target.Exec(t, `insert into dts_sync.chunk (migration, relid, no, ord, lo, hi, state, snap, snap_lsn)
		select migration, relid, 1000 + g, -g, '{0}', '{0}', 'done', '9:9:', '0/0' from dts_sync.tbl, generate_series(1, 50000) g;
		insert into dts_sync.chunk (migration, relid, no, ord, lo, hi, retry_at)
		select migration, relid, 100000 + g, 1000000 + g, '{0}', '{0}', 'infinity' from dts_sync.tbl, generate_series(1, 50000) g where name = 'few';
		analyze dts_sync.chunk`)
	lane := b.lane("copy-0")
	tx, err := b.target.Conn(t).Begin(t.Context())
	require.NoError(t, err)
	began := time.Now()
	for range 20 {
		_, found, err := ledger.ClaimChunk(t.Context(), tx, lane, 0)
		require.NoError(t, err)
		require.True(t, found)
	}
	require.Less(t, time.Since(began), 5*time.Second)
}
