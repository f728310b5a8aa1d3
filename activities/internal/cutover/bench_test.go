package cutover_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/pgdts/pgdts/activities/internal/bulk"
	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/activities/internal/follow"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bench is a migration that has reached the incremental phase, with no stream running.
type bench struct{ *slottest.Bench }

const shop = `
create table customer (id int primary key, name text not null);
create table purchase (id bigint generated always as identity primary key, customer int not null references customer, note text);
create table log (at timestamptz not null default now(), what text);
create table part (id int not null, day date not null, primary key (id, day)) partition by range (day);
create table part_1 partition of part for values from ('2020-01-01') to ('2021-01-01');
create table part_2 partition of part for values from ('2021-01-01') to ('2022-01-01');
create unlogged table scratch (id int primary key, v text);
create sequence ticket;
insert into customer select n, 'c' || n from generate_series(1, 100) n;
insert into purchase (customer, note) select n, 'p' from generate_series(1, 100) n;
insert into log (what) select 'l' || n from generate_series(1, 50) n;
insert into part select n, '2020-06-01' from generate_series(1, 20) n;
insert into part select n, '2021-06-01' from generate_series(1, 20) n;
insert into scratch values (1, 'a');
select nextval('ticket'), nextval('ticket');`

func newBench(t *testing.T, server *pgserver.Server, setup string, change ...func(*migration.Spec)) bench {
	t.Helper()
	return incremental(t, bench{slottest.New(t, server, setup)}, change...)
}

// newBenchOnto is newBench with a target that its user has made.
func newBenchOnto(t *testing.T, setup, target string, change ...func(*migration.Spec)) bench {
	t.Helper()
	b := bench{slottest.New(t, pgtest.Shared(t), setup)}
	b.To.Exec(t, target)
	return incremental(t, b, change...)
}

// acrossServers is newBench with a source that has a server of its own.
func acrossServers(t *testing.T, from, to *pgserver.Server, setup string, change ...func(*migration.Spec)) bench {
	t.Helper()
	source, target := pgtest.Database(t, from), pgtest.Database(t, to)
	source.Exec(t, setup)
	b := bench{slottest.Existing(t, migration.RandomID("test"), source.URI, target.URI)}
	b.From, b.To = source, target
	conn := b.Connect(t, b.Target)
	require.NoError(t, ledger.Create(t.Context(), conn))
	require.NoError(t, ledger.Ledger{ID: b.Spec.ID, Conn: conn}.Acquire(t.Context(), slottest.Run, b.Spec))
	return incremental(t, b, change...)
}

func incremental(t *testing.T, b bench, change ...func(*migration.Spec)) bench {
	t.Helper()
	b.Spec.Cutover.SteadyFor = 0
	b.Spec.Cutover.Deadline = migration.Duration(20 * time.Second)
	for _, f := range change {
		f(&b.Spec)
	}
	b.Prepare(t)
	config := func(lane string) schema.Config {
		return schema.Config{
			Source: b.Source, Target: b.Target, Lane: b.Enter(t, lane), Spec: b.Spec, Report: b.Report, Log: zaptest.NewLogger(t),
		}
	}
	if b.Spec.Has(migration.TypeSchema) {
		before := config("schema")
		require.NoError(t, schema.Load(t.Context(), before))
		_, _, err := schema.Create(t.Context(), before, schema.Before, schema.Options{})
		require.NoError(t, err)
	}
	copying := bulk.Config{Spec: b.Spec, Source: b.Source, Target: b.Target, Log: zaptest.NewLogger(t)}
	_, err := bulk.Plan(t.Context(), copying, b.Enter(t, "plan"), b.Report)
	require.NoError(t, err)
	if b.Spec.Has(migration.TypeFull) {
		lane := config("copy-0")
		_, err = bulk.Run(t.Context(), copying, lane.Lane, schema.NewCreator(lane), b.Report)
		require.NoError(t, err)
	}
	b.follow(t, func(f *follow.Follower) error { return f.AwaitExact(t.Context()) })
	if b.Spec.Has(migration.TypeSchema) {
		_, _, err = schema.Create(t.Context(), config("constraints"), schema.Constraint, schema.Options{})
		require.NoError(t, err)
	}
	return b
}

func (b bench) follower(t *testing.T) *follow.Follower {
	return follow.New(follow.Config{
		Source: b.Source, Target: b.Target, Spec: b.Spec, Run: slottest.Run, Report: b.Report, Logger: zaptest.NewLogger(t),
	})
}

// follow runs the stream until a goal is reached.
func (b bench) follow(t *testing.T, goal func(*follow.Follower) error) {
	t.Helper()
	f := b.follower(t)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var followErr error
	running.Go(func() { followErr = f.Run(ctx) })
	err := goal(f)
	stop()
	running.Wait()
	require.NoError(t, followErr)
	require.NoError(t, err)
}

func (b bench) catchUp(t *testing.T) {
	t.Helper()
	b.follow(t, func(f *follow.Follower) error {
		marker, err := f.Mark(t.Context())
		if err == nil {
			_, err = f.AwaitMarker(t.Context(), marker)
		}
		return err
	})
}

func (b bench) config(t *testing.T) cutover.Config {
	return cutover.Config{
		Source: b.Source, Target: b.Target, Spec: b.Spec, Run: slottest.Run, Report: b.Report, Logger: zaptest.NewLogger(t),
	}
}

func (b bench) run(t *testing.T) (ledger.Evidence, error) {
	t.Helper()
	return cutover.Run(t.Context(), b.config(t))
}

func (b bench) mustRun(t *testing.T) ledger.Evidence {
	t.Helper()
	evidence, err := b.run(t)
	require.NoError(t, err)
	return evidence
}

// at calls do once, when the cutover first says that it is in a step.
func (b bench) at(t *testing.T, step string, do func()) cutover.Config {
	config := b.config(t)
	var once sync.Once
	config.Report = func(beat migration.Beat) {
		if strings.HasPrefix(beat.Message, step) {
			once.Do(do)
		}
		b.Report(beat)
	}
	return config
}

func (b bench) opened(t *testing.T) bool {
	t.Helper()
	return pgtest.Value[bool](t, b.To, "select opened_at is not null from dts_sync.migration")
}

// mustBeAsBefore asks that a cutover that was given up has left the source writable and the migration able to go on.
func (b bench) mustBeAsBefore(t *testing.T) {
	t.Helper()
	b.mustHaveLifted(t)
	b.catchUp(t)
	require.Equal(t,
		pgtest.Value[string](t, b.From, "select name from customer where id = 1"),
		pgtest.Value[string](t, b.To, "select name from customer where id = 1"))
}

// mustHaveLifted asks that nothing of a cutover that was given up is left: clients write.
func (b bench) mustHaveLifted(t *testing.T) {
	t.Helper()
	require.False(t, b.opened(t))
	require.Zero(t, pgtest.Value[int](t, b.From, `select (select count(*) from pg_trigger where tgname like 'zz_pgdts%')
		+ (select count(*) from pg_namespace where nspname = 'pgdts_fence')
		+ (select count(*) from pg_locks l join pg_class c on c.oid = l.relation
		   where l.database = (select oid from pg_database where datname = current_database()) and c.relkind in ('r', 'p')
		     and l.mode = 'ShareRowExclusiveLock' and c.relnamespace = 'public'::regnamespace)`))
	require.True(t, pgtest.Value[bool](t, b.To, "select fenced_at is null and evidence is null from dts_sync.migration"))
	b.From.Exec(t, `set lock_timeout = '5s'; update customer set name = name || '!' where id = 1;
		insert into part values (nextval('ticket') + 1000, '2020-07-01')`)
}

// mustNotGoOn asks that the stream does not go on without the changes of a table, either.
func (b bench) mustNotGoOn(t *testing.T, table string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fault := slottest.MustFault(t, migration.FaultDrift, b.follower(t).Run(ctx))
	require.Equal(t, table, fault.Object)
}

// failpoints builds what runs a cutover in a process of its own, with an action at a failpoint: their names only mean
// something in a binary that was built with them.
func (b bench) failpoints(t *testing.T) func(action string) (string, error) {
	t.Helper()
	binary := t.TempDir() + "/cutover.test"
	out, err := exec.Command("go", "test", "-c", "-tags", "failpoint", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return func(action string) (string, error) {
		child := exec.CommandContext(t.Context(), binary, "-test.run", "^TestInChild$", "-test.v")
		child.Env = append(os.Environ(), "PGDTS_FAILPOINT="+action, "CUTOVER_SOURCE="+b.Spec.Source.URI, "CUTOVER_TARGET="+b.To.URI,
			"CUTOVER_ID="+string(b.Spec.ID))
		out, err := child.CombinedOutput()
		return string(out), err
	}
}

// TestInChild is the process that dies, or fails, at a failpoint.
func TestInChild(t *testing.T) {
	if os.Getenv("CUTOVER_ID") == "" {
		return
	}
	b := bench{slottest.Existing(t, migration.ID(os.Getenv("CUTOVER_ID")), os.Getenv("CUTOVER_SOURCE"), os.Getenv("CUTOVER_TARGET"))}
	b.Spec.Cutover.SteadyFor = 0
	_, err := b.run(t)
	require.NoError(t, err)
}
