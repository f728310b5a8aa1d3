package bulk_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/bulk"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bench is a migration whose slot is said to be made: source and target, ledger, and a configuration.
type bench struct {
	testing.TB
	source, target *pgtest.DB
	config         bulk.Config
	book           ledger.Ledger
	finisher       *finisher
}

const run = "run-1"

// newBench makes both databases and runs ddl on each.
func newBench(t testing.TB, ddl string) *bench {
	t.Helper()
	server := pgtest.Shared(t)
	return newBenchOn(t, server, server, ddl)
}

func newBenchOn(t testing.TB, from, to *pgserver.Server, ddl string) *bench {
	t.Helper()
	b := &bench{TB: t, source: pgtest.Database(t, from), target: pgtest.Database(t, to)}
	b.source.Exec(t, ddl)
	b.target.Exec(t, ddl)
	spec := migration.Spec{
		ID: migration.RandomID("bench"), Name: "bench",
		Source: migration.Endpoint{URI: b.source.URI}, Target: migration.Endpoint{URI: b.target.URI},
	}
	spec.Defaults()
	b.config = bulk.Config{Spec: spec}
	var err error
	b.config.Source, err = pg.NewServer(migration.Source, spec.Source, nil)
	require.NoError(t, err)
	b.config.Target, err = pg.NewServer(migration.Target, spec.Target, nil)
	require.NoError(t, err)
	b.book = ledger.Ledger{ID: spec.ID, Conn: b.target.Conn(t)}
	require.NoError(t, ledger.Create(t.Context(), b.book.Conn))
	require.NoError(t, b.book.Acquire(t.Context(), run, spec))
	b.made()
	b.slotSees(pgtest.Value[string](t, b.source, "select txid_current_snapshot()::text"))
	b.finisher = &finisher{bench: b}
	return b
}

// made says that the target's tables are the migration's.
func (b *bench) made() {
	b.Helper()
	b.target.Exec(b, fmt.Sprintf(`insert into dts_sync.object (migration, no, dump_id, section, kind, schema, name, ddl, state)
		select '%s', row_number() over (), 0, 'before', 'TABLE', n.nspname, c.relname, '', 'done'
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync')`, b.config.Spec.ID))
}

// slotSees records a slot whose exported snapshot is the one given.
func (b *bench) slotSees(snapshot string) {
	b.Helper()
	row := b.source.Query(b, `select system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int,
		pg_current_wal_insert_lsn() from pg_control_system()`)[0]
	b.target.Exec(b, fmt.Sprintf(`update dts_sync.migration set source_sysid = '%s', source_timeline = %s, start_lsn = '%s',
		start_snapshot = '%s'`, row[0], row[1], row[2], snapshot))
}

func (b *bench) lane(name string) ledger.Lane {
	b.Helper()
	lane, err := b.book.Enter(b.Context(), run, name)
	require.NoError(b, err)
	return lane
}

func quiet(migration.Beat) {}

func (b *bench) plan() bulk.Planned {
	b.Helper()
	planned, err := bulk.Plan(b.Context(), b.config, b.lane("plan"), quiet)
	require.NoError(b, err)
	return planned
}

// copy runs lanes until all tables are finished.
func (b *bench) copy(lanes int) bulk.Copied {
	b.Helper()
	var total bulk.Copied
	var mu sync.Mutex
	var group errgroup.Group
	for i := range lanes {
		lane := b.lane(fmt.Sprintf("copy-%d", i))
		group.Go(func() error {
			copied, err := bulk.Run(b.Context(), b.config, lane, b.finisher, quiet)
			mu.Lock()
			defer mu.Unlock()
			total.Chunks += copied.Chunks
			total.Rows += copied.Rows
			total.Bytes += copied.Bytes
			return err
		})
	}
	require.NoError(b, group.Wait())
	return total
}

// fails plans, runs one lane, and returns the fault that ended it.
func (b *bench) fails() *migration.Fault {
	b.Helper()
	_, err := bulk.Run(b.Context(), b.config, b.lane("copy-0"), b.finisher, quiet)
	fault, ok := migration.AsFault(err)
	require.True(b, ok, "want a fault, not %v", err)
	return fault
}

// start runs a lane in the background; the channel has its error.
func (b *bench) start(ctx context.Context, lane ledger.Lane) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := bulk.Run(ctx, b.config, lane, b.finisher, quiet)
		ended <- err
	}()
	return ended
}

// finisher counts calls, and fails as told.
type finisher struct {
	*bench
	mu      sync.Mutex
	keys    map[uint32]int
	fail    func(relid uint32) error
	indexes map[uint32]int
}

func (f *finisher) Key(_ context.Context, relid uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		if err := f.fail(relid); err != nil {
			return err
		}
	}
	if f.keys == nil {
		f.keys, f.indexes = map[uint32]int{}, map[uint32]int{}
	}
	f.keys[relid]++
	return nil
}

func (f *finisher) Indexes(_ context.Context, relid uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.indexes[relid]++
	return nil
}

// Together does what it is asked to unless it would fail.
func (f *finisher) Together(ctx context.Context, relids []uint32) (bool, error) {
	for _, relid := range relids {
		f.mu.Lock()
		fails := f.fail != nil && f.fail(relid) != nil
		f.mu.Unlock()
		if fails {
			return false, nil
		}
	}
	for _, relid := range relids {
		if err := errors.Join(f.Key(ctx, relid), f.Indexes(ctx, relid)); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (b *bench) stage(table string) string {
	b.Helper()
	return pgtest.Value[string](b, b.target, "select stage from dts_sync.tbl where name = $1", table)
}

func (b *bench) chunks() [][]string {
	b.Helper()
	return b.target.Query(b, "select name, no, state, attempts, lo::text, hi::text from dts_sync.chunk join dts_sync.tbl using (migration, relid) order by 1, 2")
}

func TestChunksCoverAllKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t, `
create extension citext;
create collation german (provider = icu, locale = 'de-u-co-phonebk');
create type mood as enum ('c', 'a', 'b');
create table ints (k int primary key, pad text);
create table floats (k float8 primary key, pad text);
create table numerics (k numeric primary key, pad text);
create table dates (k timestamptz primary key, pad text);
create table words (k text collate german primary key, pad text);
create table composite (a text, b int, c timestamptz, pad text, primary key (b, a, c));
create table mails (a citext, n int, pad text, primary key (a, n));
create table mailbox (a citext primary key, pad text);
create table uuids (k uuid primary key, pad text);
create table patterns (k text not null, pad text);
create unique index patterns_k on patterns (k text_pattern_ops);
alter table patterns replica identity using index patterns_k;
create table moods (m mood, n int, pad text, primary key (m, n));
create table quotes (k text primary key, pad text)`)
	b.source.Exec(t, `
insert into ints select g * 7919 % 2000003 - 1000000, repeat('x', 200) from generate_series(1, 3000) g;
insert into floats select case g when 1 then 'nan' when 2 then 'infinity' when 3 then '-infinity' else (g - 1500) * 1.37 end, repeat('x', 200)
    from generate_series(1, 3000) g;
insert into numerics select case g when 1 then 'nan'::numeric else (g - 1500) * 1e30 end, repeat('x', 200) from generate_series(1, 3000) g;
insert into dates select case g when 1 then 'infinity' when 2 then '-infinity' else '2000-01-01'::timestamptz + (g - 1500) * interval '3 years' end,
    repeat('x', 200) from generate_series(1, 2500) g;
insert into words select (array['a','A','ä','Ä','z','Z','ß','é','-',''])[g % 10 + 1] || md5(g::text), repeat('x', 200) from generate_series(1, 3000) g;
insert into composite select (array['a','B','c'])[g % 3 + 1], g % 40 - 20, '2000-01-01'::timestamptz + g * interval '1 min', repeat('x', 200)
    from generate_series(1, 3000) g;
insert into composite values ('a', 0, 'infinity'), ('a', 0, '-infinity');
insert into mails select (array['a','B','c','D','e'])[g % 5 + 1] || left(md5((g / 50)::text), 3), g, repeat('x', 200) from generate_series(1, 3000) g;
insert into mailbox select (array['a','B','c','D','e','F'])[g % 6 + 1] || md5(g::text), repeat('x', 200) from generate_series(1, 3000) g;
insert into uuids select md5(g::text)::uuid, repeat('x', 200) from generate_series(1, 3000) g;
insert into patterns select (array['a','A','z','Z','é'])[g % 5 + 1] || md5(g::text), repeat('x', 200) from generate_series(1, 3000) g;
insert into moods select (array['c','a','b'])[g % 3 + 1]::mood, g, repeat('x', 200) from generate_series(1, 3000) g;
insert into quotes select (array['''','\','"','$$','%', E'\n'])[g % 6 + 1] || md5(g::text), repeat('x', 200) from generate_series(1, 3000) g`)
	// Keys that are scattered over their table are not cut by ranges.
	for table, index := range map[string]string{
		"ints": "ints_pkey", "words": "words_pkey", "composite": "composite_pkey", "mails": "mails_pkey",
		"mailbox": "mailbox_pkey", "uuids": "uuids_pkey", "patterns": "patterns_k", "moods": "moods_pkey", "quotes": "quotes_pkey",
	} {
		b.source.Exec(t, "cluster "+table+" using "+index)
	}
	b.config.ChunkBytes = 64 << 10
	planned := b.plan()
	require.Equal(t, 12, planned.Tables)
	require.Greater(t, planned.Chunks, 12*5)
	for _, row := range b.target.Query(t, "select name, mode, count(*) from dts_sync.tbl join dts_sync.chunk using (migration, relid) group by 1, 2") {
		require.Equal(t, "keyrange", row[1], row[0])
		require.NotEqual(t, "1", row[2], "%s was not cut", row[0])
	}
	copied := b.copy(3)
	require.Equal(t, int64(planned.Chunks), copied.Chunks)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "0", b.target.Query(t, "select count(*) from dts_sync.tbl where stage <> 'band' or smin is null or hi_lsn is null")[0][0])
	require.Equal(t, "0", b.target.Query(t, "select count(*) from dts_sync.chunk where attempts <> 1")[0][0], "an attempt was wasted")
}

func TestSecondPlanFindsTheFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key, pad text)")
	b.source.Exec(t, "insert into t select g, repeat('x', 500) from generate_series(1, 2000) g")
	b.config.ChunkBytes = 64 << 10
	first := b.plan()
	chunks := b.chunks()
	b.source.Exec(t, "create table later (a int); insert into t select g, repeat('x', 500) from generate_series(3000, 9000) g")
	require.Equal(t, first, b.plan())
	require.Equal(t, chunks, b.chunks())
}

func TestAllTypesSurviveCopy(t *testing.T) {
	t.Parallel()
	b := newBench(t, allTypes)
	b.source.Exec(t, `
insert into binary_ones (b, by, c, n, i2, i4, t, o, j, jb, f4, f8, bp, v, d, ti, ts, tz, iv, ttz, bi, vb, nu, nu2, u, ip, ci, ma, m8, p, l,
    pa, bo, po, ln, ls, cc, m, mo, dom, ia, ta, na) values
(true, '\x00ff5c', 'x', 'name', -32768, 2147483647, E'null \\N \\. \r\n\t\u00e9 \u0001', 4294967295, '{"a": 1.0, "a":2}', '{"b": 1.0}', 'nan', '-0', 'ab', '',
 '4713-01-01 bc', '24:00', 'infinity', '-infinity', '-1 year +2 days -03:04:05.678', '12:00+14', '101', '1', 'nan', 1.500, md5('a')::uuid,
 '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '(1,nan)', '16/B374D848', '((0,0),(1,1))', '(1,1),(0,0)',
 '((0,0),(1,1),(1,0))', '{1,-1,0}', '[(0,0),(1,1)]', '<(0,0),1e300>', '-92233720368547758.08', 'sad', 5, '[0:2]={1,null,3}', '{"",null,"a,b","NULL"}',
 '{1e1000,nan}'),
(null, null, null, null, null, null, 'null', null, null, null, 1e-45, 1.7976931348623157e308, null, E'\\N', '-infinity', null, '294276-12-31 23:59:59.999999', null,
 null, null, null, '', 1e-1000, null, null, '::1', null, null, null, null, null, null, null, null, null, null, null, null, 'happy', null, '{}', '{{a},{b}}', null);
insert into text_ones values
(1, 'referenced', '"Select".mood', '<?xml version="1.0"?><a>ä</a>', '{sad,NULL}', '{happy}', '(1,"a,""b")', '{"(1,)",NULL}', '"a"=>NULL,"b"=>"c d"', 'MiXed',
 '[1,5)', '{[1,2),[5,6)}', 'a:1A b:2', 'a & b', 'pg_monitor', ('=r/' || current_user)::aclitem, '10:20:10,14', '$.a[*]'),
(2, null, 'int[]', null, '{}', null, '(,)', '{}', '', '', 'empty', '{}', '', '', null, null, null, null)`)
	b.plan()
	b.copy(2)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "2", b.target.Query(t, "select count(*) from binary_ones where twice = 42")[0][0])
}

const allTypes = `
create extension hstore; create extension citext;
create schema "Select"; create type "Select".mood as enum ('sad', 'happy'); create domain positive as int check (value > 0);
create domain moods as "Select".mood[]; create type pair as (a int, b text);
create table referenced (a int primary key);
create table binary_ones ("Id" bigint generated always as identity primary key, b bool, by bytea, c "char", n name, i2 int2, i4 int4, t text,
    o oid, j json, jb jsonb, f4 float4, f8 float8, bp char(5), v varchar(9), d date, ti time, ts timestamp, tz timestamptz, iv interval,
    ttz timetz, bi bit(3), vb varbit, nu numeric, nu2 numeric(12,3), u uuid, ip inet, ci cidr, ma macaddr, m8 macaddr8, p point, l pg_lsn,
    pa path, bo box, po polygon, ln line, ls lseg, cc circle, m money, mo "Select".mood, dom positive, ia int[], ta text[], na numeric[],
    twice int generated always as (7 * 6) stored);
create table text_ones (id int primary key, rc regclass, rt regtype, x xml, mo "Select".mood[], dm moods, pr pair, pra pair[], h hstore, ct citext,
    r int4range, mr int4multirange, tsv tsvector, tsq tsquery, ro regrole, ac aclitem, sn txid_snapshot, jp jsonpath)`

func TestKeylessDuplicatesCopiedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int, b text); create table deferred (a int primary key deferrable)")
	b.source.Exec(t, `insert into t select g % 3, nullif(g % 2, 0)::text from generate_series(1, 5000) g; insert into t select null, null from generate_series(1, 10);
		insert into deferred select generate_series(1, 100)`)
	b.config.ChunkBytes = 8 << 10
	planned := b.plan()
	require.Greater(t, planned.Chunks, 20)
	b.copy(3)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "insert,band,true", strings.Join(b.target.Query(t, "select published, stage, (smin = smax)::text from dts_sync.tbl where name = 't'")[0], ","))
}

func TestPartitionsAndChildrenAreCopiedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, `
create table root (a int primary key, b text) partition by range (a);
create table low partition of root for values from (0) to (100);
create table high partition of root default;
create table mother (a int primary key, b text); create table child (primary key (a)) inherits (mother)`)
	b.source.Exec(t, `insert into root select g, 'x' from generate_series(0, 500) g; insert into mother select g, 'm' from generate_series(1, 10) g;
		insert into child select g, 'c' from generate_series(5, 15) g`)
	b.plan()
	require.Equal(t, "copied", b.stage("root"))
	b.copy(2)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "exact", b.stage("root"))
	require.Equal(t, "band", b.stage("low"))
	require.Len(t, b.finisher.keys, 5, "roots have keys too")
}

func TestChunkSnapshotBeforeSlotSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key)")
	b.source.Exec(t, "insert into t values (1)")
	b.plan()
	// A slot that has seen a transaction which is still running for everybody else, as one that waits for a standby does.
	holder := b.source.Conn(t)
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	var xid int64
	require.NoError(t, tx.QueryRow(t.Context(), "select txid_current()").Scan(&xid))
	_, err = tx.Exec(t.Context(), "insert into t values (2)")
	require.NoError(t, err)
	b.slotSees(fmt.Sprintf("%d:%d:", xid+1, xid+1))
	b.config.GuardMax = 200 * time.Millisecond
	ended := b.start(t.Context(), b.lane("copy-0"))
	b.target.WaitUntil(t, "select bool_or(error like '%looks unfinished%') from dts_sync.chunk")
	require.Equal(t, "0", b.target.Query(t, "select count(*) from t")[0][0])
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-ended)
	require.Equal(t, "2", b.target.Query(t, "select count(*) from t")[0][0], "the transaction that the stream will not carry is in the copy")
}

func TestTruncateBetweenLockAndSnapshotCannotEmptyAChunk(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key)")
	b.source.Exec(t, "insert into t select generate_series(1, 1000)")
	b.plan()
	// Whoever truncates or rewrites holds the table's lock until the commit; a chunk must wait for it before its snapshot.
	tx, err := b.source.Conn(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "truncate t")
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "insert into t select generate_series(1, 7)")
	require.NoError(t, err)
	ended := b.start(t.Context(), b.lane("copy-0"))
	b.source.WaitUntil(t, "select exists (select from pg_locks where relation = 't'::regclass and not granted and mode = 'AccessShareLock' and database = (select oid from pg_database where datname = current_database()))")
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-ended)
	require.Equal(t, "7", b.target.Query(t, "select count(*) from t")[0][0])
}

func TestRewrittenTableIsNoticedNotEmpty(t *testing.T) {
	t.Parallel()
	for _, change := range []string{
		"alter table t alter b type bigint", "alter table t add c int", "alter table t rename to u",
		"drop table t", "alter table t drop constraint t_pkey", "drop table t; create table t (a int primary key, b int)",
	} {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "create table t (a int primary key, b int)")
			b.source.Exec(t, "insert into t select g, g from generate_series(1, 100) g")
			b.plan()
			b.source.Exec(t, change)
			fault := b.fails()
			require.Equal(t, migration.FaultDrift, fault.Kind, fault.Error())
			require.Contains(t, fault.Object, "public.t")
			require.NotEmpty(t, fault.Hint)
			require.Equal(t, "0", b.target.Query(t, "select count(*) from t")[0][0])
		})
	}
}

func TestAnotherServerIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{"system": "source_sysid = '1'", "timeline": "source_timeline = 9"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "create table t (a int primary key)")
			b.plan()
			b.target.Exec(t, "update dts_sync.migration set "+change)
			require.Equal(t, migration.FaultWrongServer, b.fails().Kind)
		})
	}
}

func TestUnflushedLogIsWaitedForByNudging(t *testing.T) {
	t.Parallel()
	// Nothing but our own message flushes this log in time.
	source := pgtest.Server(t, pgtest.Setting("synchronous_commit", "off"), pgtest.Setting("wal_writer_delay", "10s"),
		pgtest.Setting("wal_writer_flush_after", "1GB"), pgtest.Setting("autovacuum", "off"))
	b := newBenchOn(t, source, pgtest.Shared(t), "create table t (a int primary key)")
	b.plan()
	b.source.Exec(t, "insert into t select generate_series(1, 100)")
	b.config.GuardMax = 3 * time.Second
	b.copy(1)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "1", b.target.Query(t, "select attempts from dts_sync.chunk")[0][0])
	require.Equal(t, "true", b.source.Query(t, fmt.Sprintf("select (pg_current_wal_flush_lsn() >= '%s')::text",
		b.target.Query(t, "select snap_lsn from dts_sync.chunk")[0][0]))[0][0])
}

func TestTwoAttemptsAtOneChunkWriteRowsOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int, b text)") // no key: nothing but the ledger keeps rows from being written twice
	b.source.Exec(t, "insert into t select g, repeat('x', 100) from generate_series(1, 20000) g")
	b.plan()
	b.copy(6)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "1", b.target.Query(t, "select attempts from dts_sync.chunk")[0][0])
	require.Zero(t, b.copy(2).Chunks, "a later attempt finds it done")
	pgtest.MustEqual(t, b.source, b.target)
}

func TestLaterAttemptFencesTheEarlier(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key)")
	b.source.Exec(t, "insert into t values (1)")
	b.plan()
	old := b.lane("copy-0")
	b.lane("copy-0")
	_, err := bulk.Run(t.Context(), b.config, old, b.finisher, quiet)
	fault, ok := migration.AsFault(err)
	require.True(t, ok)
	require.Equal(t, migration.FaultReplaced, fault.Kind)
	require.Equal(t, "0", b.target.Query(t, "select count(*) from t")[0][0])
}

func TestFrozenWorkerDoesNotBlockItsChunk(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int, b text)")
	b.source.Exec(t, "insert into t select g, repeat('x', 100) from generate_series(1, 1000) g")
	b.plan()
	// A stopped process: its backends are in the middle of a transaction and hear nothing more.
	frozen := b.lane("copy-0")
	target, err := b.config.Target.Connect(t.Context(), frozen.Session())
	require.NoError(t, err)
	tx, err := target.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, frozen.Guard(t.Context(), tx))
	c := ledger.Chunk{RelID: pgtest.Value[uint32](t, b.target, "select relid from dts_sync.tbl"), No: 1}
	locked, err := ledger.LockChunk(t.Context(), tx, b.book.ID, c)
	require.NoError(t, err)
	require.True(t, locked)
	_, err = tx.Exec(t.Context(), "insert into public.t values (-1)")
	require.NoError(t, err)
	source, err := b.config.Source.Connect(t.Context(), frozen.Session())
	require.NoError(t, err)
	_, err = source.Exec(t.Context(), "begin; lock table public.t in access share mode")
	require.NoError(t, err)

	// Another lane passes over the chunk, and waits for it.
	other := b.start(t.Context(), b.lane("copy-1"))
	b.copy(1) // enters copy-0 again
	require.NoError(t, <-other)
	pgtest.MustEqual(t, b.source, b.target)
	require.Error(t, tx.Commit(t.Context()))
	require.Error(t, source.Ping(t.Context()), "the source's session holds a lock and a snapshot")
}

func TestPoisonChunkDoesNotStopOthersAndEndsItsWindow(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table good (a int primary key); create table bad (a int primary key)")
	b.source.Exec(t, "insert into good select generate_series(1, 100); insert into bad select generate_series(1, 100)")
	b.target.Exec(t, "alter table bad add check (a < 50)")
	b.plan()
	ended := b.start(t.Context(), b.lane("copy-0"))
	b.target.WaitUntil(t, "select bool_and(c.attempts >= 2 and c.error like '%check constraint%') from dts_sync.chunk c join dts_sync.tbl using (migration, relid) where name = 'bad'")
	require.Equal(t, "band", b.stage("good"))
	require.Equal(t, "0", b.target.Query(t, "select count(*) from bad")[0][0])
	// The window is over by the target's clock, once the next attempt has failed too.
	b.target.Exec(t, "update dts_sync.chunk set failed_at = failed_at - interval '10 min', retry_at = now() where state = 'todo'")
	fault, ok := migration.AsFault(<-ended)
	require.True(t, ok)
	require.Equal(t, migration.FaultWindow, fault.Kind)
	require.Contains(t, fault.Error(), "public.bad (chunk 1)")
	require.Contains(t, fault.Error(), "check constraint")
	require.Equal(t, "23514", fault.SQLState)
}

func TestHealedChunkForgetsItsOutage(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key)")
	b.source.Exec(t, "insert into t select generate_series(1, 100)")
	b.target.Exec(t, "alter table t add constraint poison check (a < 50)")
	b.plan()
	beats := make(chan migration.Beat, 1000)
	ended := make(chan error, 1)
	lane := b.lane("copy-0")
	go func() {
		_, err := bulk.Run(t.Context(), b.config, lane, b.finisher, func(beat migration.Beat) { beats <- beat })
		ended <- err
	}()
	for beat := range beats {
		if beat.Fault != nil {
			require.Contains(t, beat.Fault.Message, "check constraint")
			break
		}
	}
	b.target.Exec(t, "alter table t drop constraint poison")
	require.NoError(t, <-ended)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "0", b.target.Query(t, "select count(*) from dts_sync.chunk where failed_at is not null or error is not null")[0][0])
}

func TestTableOfADeadFinisherIsTakenOver(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key)")
	b.plan()
	dead := b.lane("copy-0")
	b.target.Exec(t, "update dts_sync.chunk set state = 'done', snap = '10:10:', snap_lsn = '0/1'")
	b.target.Exec(t, "update dts_sync.tbl set stage = 'copied', smin = '10:10:', smax = '10:10:', hi_lsn = '0/1', finisher = $1", dead.Session())
	ended := b.start(t.Context(), b.lane("copy-1"))
	b.lane("copy-0") // the next attempt at the dead one's lane, which then dies too
	require.NoError(t, <-ended)
	require.Equal(t, "band", b.stage("t"))
}

func TestFailingIndexIsTriedAgainAndEndsItsWindow(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key)")
	b.plan()
	b.finisher.fail = func(uint32) error {
		return migration.Faultf(migration.FaultOther, "create index", "", "no room")
	}
	ended := b.start(t.Context(), b.lane("copy-0"))
	b.target.WaitUntil(t, "select bool_and(error like '%no room%' and finisher is null) from dts_sync.tbl")
	b.target.Exec(t, "update dts_sync.tbl set failed_at = failed_at - interval '10 min', retry_at = now()")
	fault, ok := migration.AsFault(<-ended)
	require.True(t, ok)
	require.Equal(t, migration.FaultWindow, fault.Kind)
	require.Contains(t, fault.Error(), "public.t")
}

func TestTargetThatWasOpenedIsNotWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key)")
	b.source.Exec(t, "insert into t values (1)")
	b.plan()
	lane := b.lane("copy-0")
	b.target.Exec(t, "update dts_sync.migration set opened_at = now()")
	_, err := bulk.Run(t.Context(), b.config, lane, b.finisher, quiet)
	fault, ok := migration.AsFault(err)
	require.True(t, ok)
	require.Equal(t, migration.FaultFenced, fault.Kind)
	require.Equal(t, "0", b.target.Query(t, "select count(*) from t")[0][0])
}

func TestLostSourceEndsTheLaneAsConnection(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key)")
	b.source.Exec(t, "insert into t values (1)")
	b.plan()
	lane := b.lane("copy-0")
	blocker, err := b.source.Conn(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = blocker.Exec(t.Context(), "lock table t in access exclusive mode")
	require.NoError(t, err)
	ended := b.start(t.Context(), lane)
	b.source.WaitUntil(t, "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database())")
	b.source.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and datname = current_database()", lane.Session())
	fault, ok := migration.AsFault(<-ended)
	require.True(t, ok)
	require.Equal(t, migration.FaultConnection, fault.Kind, fault.Error())
	require.Equal(t, migration.Source, fault.Side)
	require.NoError(t, blocker.Rollback(t.Context()))
	b.copy(1)
	pgtest.MustEqual(t, b.source, b.target)
}

func TestConcurrentWritersLeaveOnlyWhatTheirSnapshotsExplain(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key, b int)")
	b.source.Exec(t, "insert into t select g, 0 from generate_series(1, 20000) g")
	b.config.ChunkBytes = 32 << 10
	b.plan()
	ctx, stop := context.WithCancel(t.Context())
	var writers errgroup.Group
	for n := range 2 {
		conn := b.source.Conn(t)
		writers.Go(func() error {
			for i := n; ctx.Err() == nil; i += 2 {
				if _, err := conn.Exec(t.Context(), "update t set b = b + 1 where a = $1", i*7919%20000+1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	b.copy(3)
	stop()
	require.NoError(t, writers.Wait())
	require.Equal(t, "20000", b.target.Query(t, "select count(*) from t")[0][0])
	tables, err := b.book.Tables(t.Context())
	require.NoError(t, err)
	require.True(t, tables[0].Smax.Includes(tables[0].Smin))
	for _, row := range b.target.Query(t, "select snap from dts_sync.chunk") {
		snapshot, err := migration.ParseSnapshot(row[0])
		require.NoError(t, err)
		require.True(t, tables[0].Smax.Includes(snapshot) && snapshot.Includes(tables[0].Smin))
	}
}

func TestDirtyTableIsCopiedAgainUnderTheFence(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int, b text); create table of_t (a int)")
	b.source.Exec(t, "insert into t select g % 10, 'x' from generate_series(1, 1000) g")
	b.plan()
	b.copy(1)
	b.source.Exec(t, "update t set b = 'y' where a = 3; delete from t where a = 4")
	lane := b.lane("cutover")
	source, err := b.config.Source.Connect(t.Context(), lane.Session())
	require.NoError(t, err)
	defer pg.Close(source)
	target, err := b.config.Target.Connect(t.Context(), lane.Session())
	require.NoError(t, err)
	defer pg.Close(target)
	tables, err := b.book.Tables(t.Context())
	require.NoError(t, err)
	var table ledger.Table
	for _, candidate := range tables {
		if candidate.Name.Name == "t" {
			table = candidate
		}
	}
	_, err = bulk.CopyUnderFence(t.Context(), b.config, source, target, lane, table)
	require.Error(t, err, "without a fence")
	_, err = source.Exec(t.Context(), "begin; lock table only t in share row exclusive mode")
	require.ErrorContains(t, err, "does not exist", "search_path is pg_catalog only")
	_, err = source.Exec(t.Context(), "rollback; begin; lock table only public.t in share row exclusive mode", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	rows, err := bulk.CopyUnderFence(t.Context(), b.config, source, target, lane, table)
	require.NoError(t, err)
	require.Equal(t, int64(900), rows)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, byte('T'), source.PgConn().TxStatus(), "the fence still holds")
}

func TestRoleThatMayOnlyReadIsEnoughOnTheSource(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key, b text); create table k (a int)")
	b.source.Exec(t, "insert into t select g, 'x' from generate_series(1, 100) g; insert into k values (1)")
	role := "reader_" + b.config.Spec.ID.Short()
	b.source.Exec(t, fmt.Sprintf("create role %s login; grant select on t, k to %s", role, role))
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), b.source.URI)
		require.NoError(t, err)
		defer pg.Close(conn)
		_, err = conn.Exec(context.Background(), fmt.Sprintf("drop owned by %s; drop role %s", role, role))
		require.NoError(t, err)
	})
	endpoint, err := url.Parse(b.source.URI)
	require.NoError(t, err)
	endpoint.User = url.User(role)
	b.config.Source, err = pg.NewServer(migration.Source, migration.Endpoint{URI: endpoint.String()}, nil)
	require.NoError(t, err)
	b.plan()
	b.copy(2)
	pgtest.MustEqual(t, b.source, b.target)
}

func TestRowsOfAnExtensionAreNotCopiedTwice(t *testing.T) {
	t.Parallel()
	// The extension's own row is on the target since its creation; only the user's rows are to be copied.
	b := newBench(t, `
create extension hstore; create table settings (a int primary key, own bool); insert into settings values (1, true);
alter extension hstore add table settings;
update pg_extension set extconfig = array['settings'::regclass::oid], extcondition = array['WHERE NOT own'] where extname = 'hstore'`)
	b.source.Exec(t, "insert into settings select g, false from generate_series(2, 50) g")
	b.plan()
	b.copy(1)
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "49", b.target.Query(t, "select rows from dts_sync.chunk")[0][0])
}

func TestChunksOfTwoHistoriesAreNotMixed(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key, pad text)")
	b.source.Exec(t, "insert into t select g, repeat('x', 500) from generate_series(1, 1000) g")
	b.config.ChunkBytes = 256 << 10
	require.GreaterOrEqual(t, b.plan().Chunks, 2)
	b.target.Exec(t, "update dts_sync.chunk set state = 'done', snap = case no when 1 then '10:20:11' else '10:20:12' end, snap_lsn = '0/1'")
	fault := b.fails()
	require.Equal(t, migration.FaultWrongServer, fault.Kind)
	require.Equal(t, "planned", b.stage("t"))
}

func TestMostlyEmptyPagesAreStillCutEvenly(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key, pad text) with (autovacuum_enabled = off)")
	b.source.Exec(t, "insert into t select g, repeat('x', 900) from generate_series(1, 40000) g; delete from t where a > 100; analyze t")
	b.config.ChunkBytes = 1 << 20
	require.Greater(t, b.plan().Chunks, 5)
	b.copy(2)
	pgtest.MustEqual(t, b.source, b.target)
	// A sample may miss some pages that follow each other; one that was taken for all of them would leave the rows in one chunk.
	require.Less(t, pgtest.Value[int](t, b.target, "select max(rows) from dts_sync.chunk"), 80)
}

func TestLanesAreNotMoreThanThereIsToDo(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (a int primary key)")
	require.Equal(t, 1, b.plan().Lanes)
	b.copy(1)
}
