package precheck_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/precheck"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Each side is looked at for itself: one that is away must not hide what is wrong with the other.
func TestUnreachableSideLeavesTheOtherLookedAt(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	for _, side := range []migration.Side{migration.Source, migration.Target} {
		t.Run(string(side), func(t *testing.T) {
			c := precheck.Config{
				Source: server(t, migration.Source, endpoint(p.source, "")),
				Target: server(t, migration.Target, endpoint(p.target, "")), Spec: p.spec,
			}
			away := server(t, side, migration.Endpoint{URI: "postgres://app@127.0.0.1:1/shop"})
			there, gone := "TARGET_CONNECTION", "SOURCE_CONNECTION"
			if side == migration.Source {
				c.Source = away
			} else {
				c.Target, there, gone = away, gone, there
			}
			items := run(t, c)
			items.mustBe(t, gone, migration.ItemFailed, "127.0.0.1:1", "connection refused", "listen_addresses")
			items.mustPass(t, there)
			for _, item := range items {
				if item.Side == side && item.Code != gone && item.Code != "DUMP_VERSION" {
					t.Errorf("%s was looked at without a session", item.Code)
				}
			}
			// What needs one side only is still there.
			only := map[migration.Side]string{migration.Source: "REPLICA_ROLE", migration.Target: "WAL_LEVEL"}[side]
			items.mustPass(t, only)
		})
	}
}

func TestConnectionItemNamesCauseAndRemedy(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	at := endpoint(p.target, "")
	for name, test := range map[string]struct {
		replace [2]string
		words   []string
	}{
		"database": {[2]string{"/" + p.target.Name, "/absent"}, []string{`database "absent" does not exist`, `create database "absent";`}},
		"role":     {[2]string{"postgres@", "nobody@"}, []string{`role "nobody" does not exist`, "login"}},
		"name":     {[2]string{"127.0.0.1", "no-such-host.invalid"}, []string{"no-such-host.invalid does not resolve", "target"}},
	} {
		t.Run(name, func(t *testing.T) {
			broken := migration.Endpoint{URI: strings.Replace(at.URI, test.replace[0], test.replace[1], 1)}
			items := run(t, precheck.Config{
				Source: server(t, migration.Source, endpoint(p.source, "")), Target: server(t, migration.Target, broken), Spec: p.spec,
			})
			items.mustBe(t, "TARGET_CONNECTION", migration.ItemFailed, test.words...)
		})
	}
}

// A database named twice would be emptied into itself; two databases of one server are fine.
func TestSameDatabaseIsSeenWhateverItsAddress(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.check(t).mustPass(t, "SAME_DATABASE")
	again := endpoint(p.source, "")
	again.URI = strings.Replace(again.URI, "127.0.0.1", "localhost", 1)
	items := run(t, precheck.Config{
		Source: server(t, migration.Source, endpoint(p.source, "")), Target: server(t, migration.Target, again), Spec: p.spec,
	})
	items.mustBe(t, "SAME_DATABASE", migration.ItemFailed, "same database", "another database")
}

// A server as it comes out of the box, or full, fails with the parameter to set; set as the fix says, it passes.
func TestUnpreparedSource(t *testing.T) {
	t.Parallel()
	from := pgtest.Server(t, pgtest.Setting("wal_level", "replica"), pgtest.Setting("max_replication_slots", "1"),
		pgtest.Setting("max_wal_senders", "1"))
	p := between(t, from, pgtest.Shared(t))
	items := p.check(t)
	items.mustPass(t, "REPLICATION_SLOTS", "REPLICATION_RIGHT")
	items.mustBe(t, "WAL_SENDERS", migration.ItemNotice, "takes over from a dead one")
	p.source.Exec(t, `select pg_create_physical_replication_slot('forgotten', true)`)
	hold(t, p)

	items = p.check(t)
	level := items.mustBe(t, "WAL_LEVEL", migration.ItemFailed, "wal_level is replica", "alter system set wal_level = logical;")
	if !level.Restart {
		t.Error("wal_level takes a restart")
	}
	items.mustBe(t, "REPLICATION_SLOTS", migration.ItemFailed, "all 1 replication slots", "forgotten",
		"-- select pg_drop_replication_slot('forgotten');", "alter system set max_replication_slots = 6;")
	items.mustBe(t, "WAL_SENDERS", migration.ItemFailed, "max_wal_senders", "alter system set max_wal_senders = 6;")
	// No sender was free to try: the catalog's word for a superuser is good enough.
	items.mustPass(t, "REPLICATION_RIGHT")

	p.source.Exec(t, `select pg_drop_replication_slot('forgotten')`)
	p.check(t).mustPass(t, "REPLICATION_SLOTS")
}

// hold takes the only WAL sender until the test ends.
func hold(t *testing.T, p *pair) {
	t.Helper()
	conn, err := server(t, migration.Source, endpoint(p.source, "")).Replication(t.Context(), "standby", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
}

// apply does what a fix says statement by statement, as psql would for an administrator.
func apply(t *testing.T, db *pgtest.DB, fix string) {
	t.Helper()
	for i, part := range strings.Split("\n"+fix, "\n\\connect ") {
		if i > 0 {
			name, rest, _ := strings.Cut(part, "\n")
			db, part = &pgtest.DB{URI: db.Server.URI(strings.Trim(name, `"`)), Name: name, Server: db.Server}, rest
		}
		conn := db.Conn(t)
		statements, err := statementsOf(part)
		if err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		for _, statement := range statements {
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
}

func TestSettingsThatNeedNoRestart(t *testing.T) {
	t.Parallel()
	from := pgtest.Server(t, pgtest.Setting("max_slot_wal_keep_size", "64MB"))
	p := between(t, from, pgtest.Shared(t))
	item := p.check(t).mustBe(t, "SLOT_ROOM", migration.ItemAlert, "64 MB", "max_slot_wal_keep_size = 1025;", "pg_reload_conf")
	if !item.Ignorable || item.Restart {
		t.Error("a person may know that 64 MB are enough, and more takes no restart")
	}
	// The server's file of its own settings goes before the included one of the test, as on any server.
	apply(t, p.source, item.Fix)
	p.source.WaitUntil(t, `select current_setting('max_slot_wal_keep_size') = '1025MB'`)
	p.check(t).mustPass(t, "SLOT_ROOM")
}

func TestConnectionBudget(t *testing.T) {
	t.Parallel()
	tight := pgtest.Server(t, pgtest.Setting("max_connections", "8"), pgtest.Setting("max_wal_senders", "4"))
	p := between(t, tight, pgtest.Shared(t))
	items := p.check(t)
	mustRead(t, items.item(t, "CONNECTIONS", migration.Source), migration.ItemAlert, "are needed", "max_connections", "parallel.copy")
	mustRead(t, items.item(t, "CONNECTIONS", migration.Target), migration.ItemPassed)
}

func TestConnectionLimitsOfRoleAndDatabase(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "connection limit 3")
	p := onShared(t)
	p.targetRole = role
	mend := func(words ...string) {
		t.Helper()
		item := p.check(t).item(t, "CONNECTIONS", migration.Target)
		mustRead(t, item, migration.ItemAlert, words...)
		apply(t, p.target, item.Fix)
	}
	mend("role "+role+" may hold 3 connections", "connection limit")
	p.target.Exec(t, fmt.Sprintf(`alter database "%s" connection limit 5`, p.target.Name))
	mend("database "+p.target.Name+" takes 5 connections", "connection limit")
	mustRead(t, p.check(t).item(t, "CONNECTIONS", migration.Target), migration.ItemPassed)
}

// The dump and the fence lock all tables at once.
func TestRoomForLocks(t *testing.T) {
	t.Parallel()
	small := pgtest.Server(t, pgtest.Setting("max_locks_per_transaction", "10"), pgtest.Setting("max_connections", "20"),
		pgtest.Setting("max_wal_senders", "4"), pgtest.Setting("max_prepared_transactions", "0"))
	p := between(t, small, pgtest.Shared(t))
	p.check(t).mustPass(t, "LOCKS")
	for batch := range 4 {
		p.source.Exec(t, fmt.Sprintf(`do $$ begin for i in 1..40 loop execute format('create table t_%d_%%s ()', i); end loop; end $$`, batch))
	}
	item := p.check(t).mustBe(t, "LOCKS", migration.ItemAlert, "160 tables", "alter system set max_locks_per_transaction = 20;")
	if !item.Restart {
		t.Error("max_locks_per_transaction takes a restart")
	}
}

// A slot cannot be made while a transaction is open that began before it, in any database of the server.
func TestTransactionsThatHoldUpTheSlot(t *testing.T) {
	t.Parallel()
	p := between(t, pgtest.Server(t), pgtest.Shared(t))
	elsewhere := pgtest.Database(t, p.source.Server)
	p.check(t).mustPass(t, "PREPARED_TRANSACTIONS", "LONG_TRANSACTIONS")

	writer := elsewhere.Conn(t)
	for _, sql := range []string{
		"create table a (id int)", "begin", "insert into a values (1)", "prepare transaction 'order''s'",
		"begin", "insert into a values (2)",
	} {
		if _, err := writer.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	reader := p.source.Conn(t)
	if _, err := reader.Exec(t.Context(), "begin; select 1"); err != nil {
		t.Fatal(err)
	}
	p.check(t).mustPass(t, "PREPARED_TRANSACTIONS", "LONG_TRANSACTIONS") // an hour of patience

	p.patience = time.Nanosecond
	items := p.check(t)
	prepared := items.mustBe(t, "PREPARED_TRANSACTIONS", migration.ItemAlert, `1 prepared transaction`, `"order's"`,
		elsewhere.Name, `rollback prepared 'order''s';`)
	pid := writer.PgConn().PID()
	long := items.mustBe(t, "LONG_TRANSACTIONS", migration.ItemAlert, "1 long transaction", fmt.Sprintf("pid %d", pid),
		elsewhere.Name, fmt.Sprintf("select pg_terminate_backend(%d);", pid))
	if !prepared.Ignorable || !long.Ignorable {
		t.Error("they may end by themselves")
	}
	apply(t, p.source, prepared.Fix)
	apply(t, p.source, long.Fix)
	elsewhere.WaitUntil(t, fmt.Sprintf("select not exists (select from pg_stat_activity where pid = %d)", pid))
	p.check(t).mustPass(t, "PREPARED_TRANSACTIONS", "LONG_TRANSACTIONS")
}

// A role without the right to see others must not be told that there are no others.
func TestTransactionsOfHiddenAgeAreMentioned(t *testing.T) {
	t.Parallel()
	private := pgtest.Server(t)
	role := newRole(t, private, "")
	p := between(t, private, pgtest.Shared(t))
	p.sourceRole, p.patience = role, time.Nanosecond
	writer := p.source.Conn(t)
	if _, err := writer.Exec(t.Context(), "begin; create table a (id int)"); err != nil {
		t.Fatal(err)
	}
	item := p.check(t).mustBe(t, "LONG_TRANSACTIONS", migration.ItemNotice, "whose age role "+role+" may not see", "grant pg_read_all_stats")
	apply(t, p.source, item.Fix)
	p.check(t).mustBe(t, "LONG_TRANSACTIONS", migration.ItemAlert, fmt.Sprintf("pid %d", writer.PgConn().PID()))
}

// A lock that somebody holds must not hold us: the item says that it could not look.
func TestLockedTableIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table a (id serial primary key); insert into a default values`)
	locker := p.source.Conn(t)
	if _, err := locker.Exec(t.Context(), "begin; lock table a in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	items := p.check(t)
	for _, code := range []string{"SEQUENCES_BEHIND", "SOURCE_SELECT", "TABLES_WITHOUT_KEY"} {
		items.mustBe(t, code, migration.ItemAlert, "could not be looked at", "exclusive lock", "pg_blocking_pids")
	}
	if _, err := locker.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	p.check(t).mustPass(t, "SEQUENCES_BEHIND")
}

// A server that goes away amid the look must not leave a report that looks complete.
func TestLostSessionBlocks(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `create table a (id serial primary key)`)
	locker := p.source.Conn(t)
	if _, err := locker.Exec(t.Context(), "begin; lock table a in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan report, 1)
	go func() { ended <- p.check(t) }()
	waiting := fmt.Sprintf(`select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%s%%' and wait_event_type = 'Lock'`,
		p.spec.ID.SessionPrefix("precheck"))
	p.source.WaitUntil(t, waiting)
	items := <-ended
	lost := items[slices.IndexFunc(items, func(i migration.Item) bool { return i.State == migration.ItemFailed })]
	if lost.Side != migration.Source || lost.Ignorable || !strings.Contains(lost.Found, "session ended") {
		t.Errorf("%+v", lost)
	}
	for _, item := range items {
		if item.Code == "SEQUENCES_BEHIND" || item.Code == "TARGET_SAME_TABLES" {
			t.Errorf("%s was looked at without a session", item.Code)
		}
	}
	items.mustPass(t, "REPLICA_ROLE")
}

// Services name their own parameters and roles; a superuser's SQL is of no use there.
func TestFixesForAManagedService(t *testing.T) {
	t.Parallel()
	from := pgtest.Server(t, pgtest.Setting("wal_level", "replica"), pgtest.Setting("max_slot_wal_keep_size", "64MB"))
	role := newRole(t, from, "")
	p := between(t, from, pgtest.Shared(t))
	p.sourceRole = role
	p.source.Exec(t, fmt.Sprintf(`alter database "%s" set rds.logical_replication = '0'`, p.source.Name))
	items := p.check(t)
	items.mustBe(t, "WAL_LEVEL", migration.ItemFailed, "rds.logical_replication = 1", "parameter group", "reboot the instance")
	items.mustBe(t, "REPLICATION_RIGHT", migration.ItemFailed, "grant rds_replication to")
	items.mustBe(t, "SLOT_ROOM", migration.ItemAlert, "max_slot_wal_keep_size = 1025", "without a reboot")
}

// The oldest and the newest server that can be a source answer every question.
func TestOldestAndNewestSource(t *testing.T) {
	for _, major := range []int{10, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			p := between(t, pgtest.Server(t, pgtest.Major(major)), pgtest.Shared(t))
			p.source.Exec(t, `
				create schema s; create table s.a (id bigint generated always as identity primary key, v text collate "C");
				create table s.b (id int); create unlogged table s.c (id serial primary key); create domain s.d as text;
				create table s.e (id int) partition by list (id); create table s.e1 partition of s.e for values in (1);
				create function s.f(int) returns int language sql as 'select 1'; create view s.v as select * from s.a;
				create aggregate s.total(int) (sfunc = int4pl, stype = int)`)
			p.target.Exec(t, `create schema s; create table s.a (id int); create function s.f(int) returns int language sql as 'select 1'`)
			items := p.check(t)
			for _, item := range items {
				if strings.Contains(item.Found, "could not be looked at") {
					t.Errorf("%s: %s", item.Code, item.Found)
				}
			}
			items.mustPass(t, "SOURCE_VERSION", "WAL_LEVEL", "REPLICATION_RIGHT", "SEQUENCES_BEHIND", "IDLE_SLOT_TIMEOUT")
			items.mustBe(t, "TARGET_SAME_TABLES", migration.ItemFailed, "s.a")
			items.mustBe(t, "TARGET_SAME_OBJECTS", migration.ItemFailed, "s.f(integer)")
			p.mustHoldUpASlot(t)
			there := p.target.Server.Binaries.Major
			if major > there {
				items.mustBe(t, "TARGET_VERSION", migration.ItemAlert, "older than the source", fmt.Sprintf("version %d or newer", major))
			} else {
				items.mustPass(t, "TARGET_VERSION")
			}
		})
	}
}

// Since 18 a server throws away a slot that nobody reads for some time, and nobody reads it while tables are copied.
func TestIdleSlotTimeout(t *testing.T) {
	t.Parallel()
	from := pgtest.Server(t, pgtest.Major(18), pgtest.Setting("idle_replication_slot_timeout", "3600"))
	p := between(t, from, pgtest.Shared(t))
	item := p.check(t).mustBe(t, "IDLE_SLOT_TIMEOUT", migration.ItemAlert, "idle_replication_slot_timeout is 3600", "alter system set")
	apply(t, p.source, item.Fix)
	p.source.WaitUntil(t, `select current_setting('idle_replication_slot_timeout') = '0'`)
	p.check(t).mustPass(t, "IDLE_SLOT_TIMEOUT")
}

func TestOwnSlotLeftFromBefore(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.check(t).mustPass(t, "OWN_SLOT")
	p.source.Exec(t, `select pg_create_logical_replication_slot($1, 'pgoutput')`, p.spec.ID.Slot())
	item := p.check(t).mustBe(t, "OWN_SLOT", migration.ItemNotice, p.spec.ID.Slot(), "made again")

	makeLedger(t, p.target)
	p.target.Exec(t, `insert into dts_sync.migration (id, run, lease_until, spec) values ($1, 'r', now(), '{}')`, p.spec.ID)
	p.check(t).mustPass(t, "OWN_SLOT")
	p.target.Exec(t, `delete from dts_sync.migration`)
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "OWN_SLOT")
}

func makeLedger(t *testing.T, db *pgtest.DB) {
	t.Helper()
	if err := ledger.Create(t.Context(), db.Conn(t)); err != nil {
		t.Fatal(err)
	}
}

// On a standby a snapshot does not tell which transactions it leaves out: rows would be lost in silence.
func TestStandbyAsSource(t *testing.T) {
	t.Parallel()
	p := between(t, pgtest.Server(t), pgtest.Shared(t))
	p.check(t).mustPass(t, "SOURCE_PRIMARY")
	from := p.source.Server
	if err := from.Stop(pgserver.Fast); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from.Dir, "data", "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := from.Restart(t.Context(), pgserver.Fast); err != nil {
		t.Fatal(err)
	}
	p.check(t).mustBe(t, "SOURCE_PRIMARY", migration.ItemFailed, "source is a standby", "select pg_promote()")
	turned := *p
	turned.source, turned.target = p.target, p.source
	turned.check(t).mustBe(t, "TARGET_PRIMARY", migration.ItemFailed, "target is a standby", "name the primary in target")
	apply(t, p.source, "select pg_promote();")
	p.check(t).mustPass(t, "SOURCE_PRIMARY", "TARGET_PRIMARY")
}

// A source that a cutover has closed has been left behind by its application.
func TestFencedSource(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.check(t).mustPass(t, "SOURCE_FENCED")
	p.source.Exec(t, "create schema pgdts_fence")
	p.check(t).mustBe(t, "SOURCE_FENCED", migration.ItemFailed, "another server", "pgdts unfence")
}

// A slot that a person names must be one that can be read from, or the stream fails after everything else was made.
func TestSlotThatTheDefinitionNames(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.of(func(s *migration.Spec) {
		s.Types, s.Incremental.Slot = []migration.Type{migration.TypeIncremental}, strings.ReplaceAll(p.spec.ID.Slot(), "dts_sync", "mine")
	})
	slot := p.spec.Incremental.Slot
	items := p.check(t)
	items.mustLack(t, "OWN_SLOT", "REPLICATION_SLOTS", "LONG_TRANSACTIONS")
	item := items.mustBe(t, "GIVEN_SLOT", migration.ItemFailed, "no slot "+slot)
	p.source.Exec(t, `select pg_create_physical_replication_slot($1)`, slot)
	p.check(t).mustBe(t, "GIVEN_SLOT", migration.ItemFailed, "none of plugin pgoutput")
	p.source.Exec(t, `select pg_drop_replication_slot($1)`, slot)
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "GIVEN_SLOT")
	later(t, p.source, "select pg_drop_replication_slot('"+slot+"')")
	p.source.Exec(t, `create table nokey (id int)`)
	p.spec.WithoutKey = migration.FullIdentity
	p.check(t).mustBe(t, "TABLES_WITHOUT_KEY", migration.ItemFailed, "the slot holds was written without")
}
