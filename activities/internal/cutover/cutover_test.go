package cutover_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestCutoverMovesEverything(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.From.Exec(t, "update customer set name = 'late' where id = 7; insert into log (what) values ('late'); select nextval('ticket')")
	evidence := b.mustRun(t)
	require.True(t, b.opened(t))
	require.Equal(t, "hash", evidence.Verified)
	require.Equal(t, 2, evidence.Sequences)
	require.Positive(t, evidence.WriteBlocked.D())
	require.Empty(t, evidence.Notes)
	pgtest.MustEqual(t, b.From, b.To)
	require.EqualValues(t, 4, pgtest.Value[int64](t, b.To, "select nextval('ticket')"))
	b.To.Exec(t, "insert into purchase (customer) values (1)")
	require.EqualValues(t, 101, pgtest.Value[int64](t, b.To, "select max(id) from purchase"))

	report, err := b.Ledger(t).Report(t.Context())
	require.NoError(t, err)
	require.Equal(t, evidence.WriteBlocked, report.WriteBlocked)
	require.Equal(t, "hash", report.Verified)
	require.Equal(t, 6, report.Tables)
	require.Equal(t, 2, report.Sequences)
	statuses, err := b.Ledger(t).TableStatuses(t.Context())
	require.NoError(t, err)
	require.Equal(t, "public.customer", statuses[0].Table)
	require.Equal(t, migration.StageExact, statuses[0].Stage)
	require.Equal(t, "hash", statuses[0].Verification)
	require.EqualValues(t, 100, statuses[0].Rows.Copied)
}

// writer runs a statement in a session of its own and keeps what became of it.
type writer struct {
	name, setup, statement string
	copied                 string // rows for COPY
	conn                   *pgx.Conn
	err                    error
}

// The locks are let go with the commit that makes the triggers, so that whoever waits must find them (I1).
func TestQueuedWritersFailAfterCutover(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	writers := []*writer{
		{name: "plain", statement: "insert into customer values (1000, 'x')"},
		{name: "update of no row", statement: "update customer set name = 'x' where false"},
		{name: "prepared", setup: "prepare w as update customer set name = 'x' where id = 1", statement: "execute w"},
		{name: "transaction", setup: "begin; select 1", statement: "delete from log"},
		{name: "copy", copied: "77\tx\n", statement: "copy customer from stdin"},
		{name: "truncate", statement: "truncate log"},
		{name: "truncate cascade", statement: "truncate customer cascade"},
		{name: "replica role", setup: "set session_replication_role = replica", statement: "insert into customer values (1001, 'x')"},
		{name: "root", statement: "insert into part values (99, '2020-02-02')"},
		{name: "partition", statement: "insert into part_2 values (99, '2021-02-02')"},
		{name: "unlogged", statement: "insert into scratch values (9, 'x')"},
		{name: "prepared transaction", setup: "begin", statement: "insert into purchase (customer) values (1)"},
	}
	before := pgtest.Hashes(t, b.From)
	for _, w := range writers {
		w.conn = b.From.Conn(t)
		if w.setup != "" {
			_, err := w.conn.Exec(t.Context(), w.setup)
			require.NoError(t, err)
		}
	}
	var started sync.WaitGroup
	// At the marker the locks are held; the cutover is let go on when every writer waits.
	evidence, err := cutover.Run(t.Context(), b.at(t, "marker", func() {
		for _, w := range writers {
			started.Go(func() { w.write(t) })
		}
		b.From.WaitUntil(t, fmt.Sprintf(`select count(*) = %d from pg_stat_activity
			where datname = current_database() and wait_event_type = 'Lock'`, len(writers)))
	}))
	require.NoError(t, err)
	require.Equal(t, "hash", evidence.Verified)
	started.Wait()
	for _, w := range writers {
		require.Equal(t, "25006", pg.SQLState(w.err), "%s: %v", w.name, w.err)
		require.ErrorContains(t, w.err, "has moved to 127.0.0.1:", w.name)
	}
	require.Equal(t, before, pgtest.Hashes(t, b.From))
	pgtest.MustEqual(t, b.From, b.To)
}

func (w *writer) write(t *testing.T) {
	if w.copied != "" {
		_, w.err = w.conn.PgConn().CopyFrom(t.Context(), strings.NewReader(w.copied), w.statement)
		return
	}
	_, w.err = w.conn.Exec(t.Context(), w.statement)
}

// Whatever ends a cutover before the opening, the source is writable again and the stream goes on.
func TestAbortLeavesSourceWritable(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	die := b.failpoints(t)
	for _, step := range []string{"gates", "fence", "marker", "drain", "verify", "sequences", "open"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := cutover.Run(ctx, b.at(t, step, cancel))
		require.ErrorIs(t, err, context.Canceled, step)
		b.mustBeAsBefore(t)
	}
	for _, failpoint := range []string{"fenced", "marked", "drained", "verified", "sequences", "blocked"} {
		out, err := die("cutover-" + failpoint + "=error")
		require.Error(t, err)
		require.Contains(t, out, "failpoint cutover-"+failpoint)
		b.mustBeAsBefore(t)
	}
	b.mustRun(t)
	pgtest.MustEqual(t, b.From, b.To)
}

// A process that dies anywhere is followed by one that begins anew; what it left on the source is undone first.
func TestKillBetweenBlockAndOpenIsUndone(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	die := b.failpoints(t)
	for _, failpoint := range []string{"fenced", "marked", "drained", "verified", "sequences"} {
		out, err := die("cutover-" + failpoint + "=kill")
		require.ErrorContains(t, err, "killed", out)
		b.From.Exec(t, "set lock_timeout = '10s'; update customer set name = name || '.'")
	}
	out, err := die("cutover-blocked=kill")
	require.ErrorContains(t, err, "killed", out)
	require.False(t, b.opened(t))
	_, err = b.From.Conn(t).Exec(t.Context(), "update customer set name = 'lost'")
	require.Equal(t, "25006", pg.SQLState(err), "the source is closed until somebody finds out")

	ctx, cancel := context.WithCancel(t.Context())
	_, err = cutover.Run(ctx, b.at(t, "gates", cancel))
	require.ErrorIs(t, err, context.Canceled)
	b.mustBeAsBefore(t)
	b.mustRun(t)
	pgtest.MustEqual(t, b.From, b.To)
}

func TestRetryAfterOpenedDoesNotReopenOrWrite(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	die := b.failpoints(t)
	out, err := die("cutover-opened=kill")
	require.ErrorContains(t, err, "killed", out)
	require.True(t, b.opened(t))
	opened := b.To.Query(t, "select opened_at, evidence ->> 'writeBlocked' from dts_sync.migration")
	b.To.Exec(t, "update customer set name = 'new life'; select setval('ticket', 999)")
	evidence := b.mustRun(t)
	require.Equal(t, "hash", evidence.Verified)
	require.Equal(t, opened[0][1], evidence.WriteBlocked.String())
	require.Equal(t, opened, b.To.Query(t, "select opened_at, evidence ->> 'writeBlocked' from dts_sync.migration"))
	require.Equal(t, 100, pgtest.Value[int](t, b.To, "select count(*) from customer where name = 'new life'"))
	require.Equal(t, 999, pgtest.Value[int](t, b.To, "select last_value from ticket"))
	_, err = b.From.Conn(t).Exec(t.Context(), "update customer set name = 'lost'")
	require.Equal(t, "25006", pg.SQLState(err))
}

func TestDeadlineLiftsFence(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, func(s *migration.Spec) { s.Cutover.Deadline = migration.Duration(2 * time.Second) })
	reader := b.To.Conn(t)
	config := b.at(t, "verify", func() {
		_, err := reader.Exec(t.Context(), "begin; lock table customer in access exclusive mode")
		require.NoError(t, err)
	})
	_, err := cutover.Run(t.Context(), config)
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Message, "the deadline of 2s ended in step verify")
	_, err = reader.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	b.mustBeAsBefore(t)
}

func TestDifferenceAborts(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.To.Exec(t, "update customer set name = 'other' where id = 3")
	_, err := b.run(t)
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Object, "public.customer (100 rows on the source, 100 on the target, by hash)")
	require.Equal(t, "differs", pgtest.Value[string](t, b.To, "select verdict from dts_sync.tbl where name = 'customer'"))
	b.mustBeAsBefore(t)
	b.To.Exec(t, "update customer set name = 'c3' where id = 3")
	b.mustRun(t)
	pgtest.MustEqual(t, b.From, b.To)
}

func TestSequencesExact(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), `
create table customer (id serial primary key, name text);
insert into customer (name) values ('a');
create sequence untouched start 5;
create sequence down increment -3 maxvalue 100 start 50;
create sequence full_up maxvalue 7;
create sequence circle maxvalue 3 cycle;
create sequence cached cache 100;
create schema "Ü x"; create sequence "Ü x"."s""q" as smallint;`)
	b.From.Exec(t, `select nextval('down'), nextval('down'), setval('full_up', 7), nextval('circle'), nextval('circle'), nextval('circle'),
		nextval('cached'), setval('"Ü x"."s""q"', 30000, false)`)
	evidence := b.mustRun(t)
	require.Equal(t, 7, evidence.Sequences)
	for _, name := range []string{"customer_id_seq", "untouched", "down", "full_up", "circle", "cached", `"Ü x"."s""q"`} {
		state := "select last_value, is_called from " + name
		require.Equal(t, b.From.Query(t, state), b.To.Query(t, state), name)
	}
	require.Equal(t, 5, pgtest.Value[int](t, b.To, "select nextval('untouched')"))
	require.Equal(t, 44, pgtest.Value[int](t, b.To, "select nextval('down')"))
	require.Equal(t, 1, pgtest.Value[int](t, b.To, "select nextval('circle')"))
	require.Equal(t, 30000, pgtest.Value[int](t, b.To, `select nextval('"Ü x"."s""q"')`))
	_, err := b.To.Conn(t).Exec(t.Context(), "select nextval('full_up')")
	require.Equal(t, "2200H", pg.SQLState(err))
}

func TestSequenceMarginGoesInTheSequencesDirection(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), `create table t (id serial primary key); insert into t default values;
		create sequence down increment -3 maxvalue 100 start 50; create sequence nearly maxvalue 7`,
		func(s *migration.Spec) { s.Cutover.SequenceMargin = 10 })
	b.From.Exec(t, "select nextval('down'), nextval('nearly')")
	b.mustRun(t)
	require.Equal(t, 12, pgtest.Value[int](t, b.To, "select nextval('t_id_seq')"))
	require.Equal(t, 17, pgtest.Value[int](t, b.To, "select nextval('down')"))
	require.Equal(t, 7, pgtest.Value[int](t, b.To, "select last_value from nearly"))
}

func TestDirtyKeylessTableIsCopiedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.From.Exec(t, "update log set what = 'changed' where what = 'l7'; delete from log where what = 'l8'; insert into log (what) values ('l9'), ('l9')")
	b.From.Exec(t, "update scratch set v = 'unseen'")
	evidence := b.mustRun(t)
	methods := map[string]string{}
	for _, verdict := range evidence.Verdicts {
		methods[verdict.Table] = verdict.Method
	}
	require.Equal(t, map[string]string{"public.log": "recopied", "public.scratch": "recopied"}, methods)
	pgtest.MustEqual(t, b.From, b.To)
}

// Counters are lost in a crash and can be reset; then only the rows themselves tell.
func TestKeylessTableIsComparedWhenItsCountersSayNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.From.Exec(t, "update log set what = 'changed' where what = 'l7'")
	b.From.WaitUntil(t, "select pg_stat_get_tuples_updated('log'::regclass) = 1")
	b.To.Exec(t, "update dts_sync.tbl set writes_base = 1 where name = 'log'")
	evidence := b.mustRun(t)
	require.Equal(t, "recopied", evidence.Verdicts[0].Method)
	pgtest.MustEqual(t, b.From, b.To)
}

// A new primary counts from nothing, so that counters neither clear a table without a key nor make it be copied again.
func TestKeylessTableIsComparedAfterAFailover(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.To.Exec(t, "update dts_sync.tbl set writes_base = -1")
	settled, err := cutover.Settle(t.Context(), b.config(t))
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(settled.Notes), "nobody knows, since the source failed over")
	require.Contains(t, fmt.Sprint(settled.Notes), "public.log")

	b = newBench(t, pgtest.Shared(t), shop)
	b.To.Exec(t, "update dts_sync.tbl set writes_base = -1")
	for _, verdict := range b.mustRun(t).Verdicts {
		if verdict.Table == "public.log" {
			require.Equal(t, "hash", verdict.Method)
		}
	}
	pgtest.MustEqual(t, b.From, b.To)
}

func TestLongTransactionIsNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, func(s *migration.Spec) { s.Cutover.Deadline = migration.Duration(time.Second) })
	config := b.config(t)
	config.TransactionAgeMax = time.Millisecond
	reader := b.From.Conn(t)
	_, err := reader.Exec(t.Context(), "begin isolation level repeatable read; select count(*) from customer")
	require.NoError(t, err)
	conn := b.From.Conn(t)
	_, err = conn.Exec(t.Context(), "set application_name = 'nightly job'; begin; update customer set name = 'x' where id = 1")
	require.NoError(t, err)
	_, err = cutover.Run(t.Context(), config)
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Message, fmt.Sprintf("pid %d of postgres (nightly job), idle in transaction since", conn.PgConn().PID()))
	require.NotContains(t, fault.Message, fmt.Sprint(reader.PgConn().PID()), "a reader is in nobody's way")

	_, err = cutover.Run(t.Context(), b.config(t))
	fault = slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Message, "the locks could not be had within 1s", "a young one is waited for")
	require.Contains(t, fault.Message, fmt.Sprintf("pid %d of postgres (nightly job)", conn.PgConn().PID()))

	_, err = conn.Exec(t.Context(), "prepare transaction 'left ''here'")
	require.NoError(t, err)
	_, err = b.run(t)
	fault = slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Message, "prepared transaction 'left ''here'")
	b.From.Exec(t, "commit prepared 'left ''here'")
	b.mustRun(t)
	pgtest.MustEqual(t, b.From, b.To)
}

// Writers wait behind a fence that waits for one of them, but never longer than a moment.
func TestApplicationDoesNotWaitLongForAFenceThatCannotBeHad(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, func(s *migration.Spec) { s.Cutover.Deadline = migration.Duration(3 * time.Second) })
	holder := b.From.Conn(t)
	_, err := holder.Exec(t.Context(), "begin; insert into part values (500, '2020-05-05')")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { _, err := cutover.Run(t.Context(), b.config(t)); done <- err }()
	writer := b.From.Conn(t)
	var slowest time.Duration
	for writes := 0; ; writes++ {
		select {
		case err := <-done:
			_ = slottest.MustFault(t, migration.FaultNotReady, err)
			require.Greater(t, writes, 10)
			require.Less(t, slowest, 4*time.Second)
			return
		default:
		}
		began := time.Now()
		_, err := writer.Exec(t.Context(), "update customer set name = name where id = 1")
		require.NoError(t, err, "the application must never be the victim")
		slowest = max(slowest, time.Since(began))
	}
}

const guarded = shop + `
create function refuse() returns trigger language plpgsql as $$ begin raise exception 'always'; end $$;
create function stamp() returns trigger language plpgsql as $$ begin new.note := 'stamped'; return new; end $$;
create trigger stamp before insert on purchase for each row execute function stamp();
alter table purchase enable always trigger stamp;
create table audited (id int primary key);
create table audit (id int primary key);
create rule audited as on insert to audited do also insert into audit values (new.id);
insert into audited values (1);`

// What would disturb the stream comes with the opening, all of it or nothing (I4).
func TestObjectsOfTheOpeningComeWithItOrNotAtAll(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), guarded)
	const made = "select (select count(*) from pg_trigger where tgname = 'stamp') + (select count(*) from pg_rules where rulename = 'audited')"
	require.Zero(t, pgtest.Value[int](t, b.To, made))
	b.To.Exec(t, `update dts_sync.object set ddl = 'select 1/0; ' || ddl where no = (select max(no) from dts_sync.object where section = 'opening')`)
	_, err := b.run(t)
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Equal(t, "22012", fault.SQLState)
	require.Regexp(t, `leave the object out: pgdts resume \S+ --ignore \d+, and cut over`, fault.Hint)
	require.Zero(t, pgtest.Value[int](t, b.To, made))
	b.mustBeAsBefore(t)
	b.From.Exec(t, "insert into audited values (2); insert into purchase (customer) values (1)")
	b.To.Exec(t, "update dts_sync.object set ddl = replace(ddl, 'select 1/0; ', '')")
	b.mustRun(t)
	require.Equal(t, 2, pgtest.Value[int](t, b.To, made))
	pgtest.MustEqual(t, b.From, b.To)
}

func TestWhoWritesBehindTheFenceIsNoticed(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, func(s *migration.Spec) { s.Cutover.Fence = "none" })
	_, err := cutover.Run(t.Context(), b.at(t, "sequences", func() { b.From.Exec(t, "insert into customer values (500, 'behind')") }))
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Message, "1 changes were made on the source behind the fence")
	b.mustBeAsBefore(t)
	evidence := b.mustRun(t)
	require.Len(t, evidence.Notes, 1)
	require.Zero(t, evidence.WriteBlocked)
	pgtest.MustEqual(t, b.From, b.To)
}

func TestConflictsNeedAComparisonOfEveryValue(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.To.Exec(t, "update dts_sync.tbl set conflicts = 2 where name = 'customer'")
	_, err := b.run(t)
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Equal(t, "public.customer", fault.Object)
	b.Spec.Cutover.Verify = "hash"
	b.mustRun(t)
}

func TestUnbuiltConstraintsKeepTheGateClosed(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.To.Exec(t, "update dts_sync.object set state = 'failed' where kind = 'FK CONSTRAINT'")
	_, err := b.run(t)
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Message, "1 objects are not created")
	b.mustBeAsBefore(t)
}

// A partition that comes into being before the locks is locked and closed with the others.
func TestPartitionMadeMeanwhileIsFencedToo(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	for _, db := range []*pgtest.DB{b.To, b.From} {
		db.Exec(t, "create table part_3 partition of part for values from ('2022-01-01') to ('2023-01-01')")
	}
	b.mustRun(t)
	_, err := b.From.Conn(t).Exec(t.Context(), "insert into part_3 values (1, '2022-05-05')")
	require.Equal(t, "25006", pg.SQLState(err))
}

// An opening that was rolled back with its session must not leave the source closed.
func TestOpeningThatFailedInItsCommitIsUndone(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.To.Exec(t, `create function public.die() returns trigger language plpgsql as $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
		create constraint trigger die after update of opened_at on dts_sync.migration deferrable initially deferred
		for each row when (new.opened_at is not null) execute function public.die()`)
	_, err := b.run(t)
	_ = slottest.MustFault(t, migration.FaultConnection, err)
	b.mustBeAsBefore(t)
	b.To.Exec(t, "drop trigger die on dts_sync.migration")
	b.mustRun(t)
}

// A commit of the blocking triggers that waits for a dead standby becomes visible late. A fence that was lifted before
// that would come back by itself, on a source that the application goes on with.
func TestBlockThatWaitsForADeadStandbyDoesNotComeBack(t *testing.T) {
	t.Parallel()
	b := acrossServers(t, pgtest.Server(t), pgtest.Shared(t), shop)
	standby := func(names string) {
		b.From.Exec(t, "alter system set synchronous_standby_names = '"+names+"'")
		b.From.Exec(t, "select pg_reload_conf()")
	}
	_, err := cutover.Run(t.Context(), b.at(t, "open", func() { standby("nobody") }))
	require.Error(t, err)
	standby("")
	b.From.WaitUntil(t, "select count(*) = 0 from pg_stat_activity where wait_event = 'SyncRep'")
	b.mustBeAsBefore(t)
	b.mustRun(t)
}

// An opening whose answer was lost has happened: lifting the fence would let both databases be written. The commit is
// local when its session ends in the wait for a standby.
func TestOpeningWhoseAnswerWasLostStands(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, pgtest.Setting("synchronous_commit", "local"))
	b := newBench(t, server, shop)
	b.To.Exec(t, `create function public.wait_for_standby() returns trigger language plpgsql as $$ begin
			perform set_config('synchronous_commit', 'on', true); return new; end $$;
		create trigger wait_for_standby before update of opened_at on dts_sync.migration
		for each row when (new.opened_at is not null) execute function public.wait_for_standby()`)
	standby := func(names string) {
		b.To.Exec(t, "alter system set synchronous_standby_names = '"+names+"'")
		b.To.Exec(t, "select pg_reload_conf()")
	}
	done := make(chan error, 1)
	var evidence ledger.Evidence
	config := b.at(t, "open", func() { standby("nobody") })
	go func() {
		var err error
		evidence, err = cutover.Run(t.Context(), config)
		done <- err
	}()
	b.To.WaitUntil(t, `select count(pg_terminate_backend(pid)) = 1 from pg_stat_activity
		where wait_event = 'SyncRep' and application_name like 'pgdts/%/cutover/%'`)
	standby("")
	require.NoError(t, <-done)
	require.True(t, b.opened(t))
	require.Equal(t, "hash", evidence.Verified)
	_, err := b.From.Conn(t).Exec(t.Context(), "update customer set name = 'lost'")
	require.Equal(t, "25006", pg.SQLState(err))
}

// A cutover to whose source another server has come is given up, not asked about: the stream decides whether it can follow.
func TestSourceThatFailedOverEndsTheCutoverAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.To.Exec(t, "update dts_sync.migration set source_timeline = source_timeline + 1")
	_, err := cutover.Run(t.Context(), b.config(t))
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Message, "the migration began on timeline 2")
	b.To.Exec(t, "update dts_sync.migration set source_timeline = source_timeline - 1")
	b.mustBeAsBefore(t)
}
