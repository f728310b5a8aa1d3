package precheck_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// What is odd about a server but does no harm is said and blocks nothing; what does harm is mended by its fix.
func TestOddSettingsOfAServer(t *testing.T) {
	t.Parallel()
	odd := pgtest.Server(t, pgtest.Setting("wal_sender_timeout", "2s"), pgtest.Setting("archive_mode", "on"),
		pgtest.Setting("archive_command", "false"), pgtest.Setting("temp_file_limit", "64kB"), pgtest.Setting("max_worker_processes", "2"))
	p := between(t, odd, odd)
	p.source.Exec(t, `create table a (id int primary key, v text); insert into a select n, n from generate_series(1, 20000) n`)
	p.source.Exec(t, `select pg_switch_wal()`)
	p.source.WaitUntil(t, `select last_failed_time is not null from pg_stat_archiver`)

	items := p.check(t)
	timeout := items.mustBe(t, "WAL_SENDER_TIMEOUT", migration.ItemNotice, "wal_sender_timeout is 2s", "alter system set wal_sender_timeout = '60s';")
	items.mustBe(t, "ARCHIVING", migration.ItemNotice, "archive_command")
	sort := items.mustBe(t, "TEMP_FILE_LIMIT", migration.ItemAlert, "64 kB", "temp_file_limit = -1;")
	workers := items.mustBe(t, "WORKER_PROCESSES", migration.ItemNotice, "max_worker_processes is 2", "max_worker_processes = 4;")
	if !workers.Restart || timeout.Restart {
		t.Error("max_worker_processes takes a restart, wal_sender_timeout none")
	}
	apply(t, p.source, timeout.Fix)
	apply(t, p.target, sort.Fix)
	apply(t, p.target, workers.Fix)
	p.source.Exec(t, `alter system set archive_command = 'true'`)
	if err := odd.Restart(t.Context(), pgserver.Fast); err != nil {
		t.Fatal(err)
	}
	p.source.Exec(t, `select pg_switch_wal()`)
	p.source.WaitUntil(t, `select last_archived_time > last_failed_time from pg_stat_archiver`)
	p.check(t).mustPass(t, "WAL_SENDER_TIMEOUT", "ARCHIVING", "TEMP_FILE_LIMIT", "WORKER_PROCESSES")

	p.source.Exec(t, `alter system set wal_sender_timeout = 0`)
	p.source.Exec(t, `select pg_reload_conf()`)
	p.source.WaitUntil(t, `select current_setting('wal_sender_timeout') = '0'`)
	p.check(t).mustBe(t, "WAL_SENDER_TIMEOUT", migration.ItemNotice, "never notices")
}

// A commit that waits for a standby that is away hangs for ever, ours too.
func TestCommitsThatWaitForAnAbsentStandby(t *testing.T) {
	t.Parallel()
	waiting := pgtest.Server(t)
	p := between(t, waiting, waiting)
	p.check(t).mustPass(t, "SYNCHRONOUS_STANDBYS")
	if err := waiting.Set(t.Context(), "synchronous_standby_names", "FIRST 2 (ghost, spirit)"); err != nil {
		t.Fatal(err)
	}
	items := p.check(t)
	mustRead(t, items.item(t, "SYNCHRONOUS_STANDBYS", migration.Source), migration.ItemAlert, "asks for 2", "every commit waits")
	item := items.item(t, "SYNCHRONOUS_STANDBYS", migration.Target)
	mustRead(t, item, migration.ItemAlert, `FIRST 2 (ghost, spirit)`, "alter system set synchronous_standby_names = '';")
	apply(t, p.target, item.Fix)
	p.source.WaitUntil(t, `select current_setting('synchronous_standby_names') = ''`)
	p.check(t).mustPass(t, "SYNCHRONOUS_STANDBYS")
}

// A server half way to the end of its transaction numbers must freeze before a slot holds its catalog.
func TestOldRows(t *testing.T) {
	t.Parallel()
	old := pgtest.Server(t, pgtest.Setting("autovacuum", "off"), pgtest.Setting("autovacuum_freeze_max_age", "2000000000"))
	p := between(t, old, pgtest.Shared(t))
	p.check(t).mustPass(t, "XID_AGE")
	advance(t, old, 600<<20)
	item := p.check(t).mustBe(t, "XID_AGE", migration.ItemAlert, p.source.Name+" (62", "postgres (62", "template1 (62", `\connect "postgres"`)
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "XID_AGE")
}

// advance lets a server believe that it has given out so many transaction numbers, a multiple of 2^20.
func advance(t *testing.T, server *pgserver.Server, xid uint32) {
	t.Helper()
	if err := server.Stop(pgserver.Fast); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(server.Dir, "data")
	info, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner")
	}
	segment := filepath.Join(data, "pg_xact", fmt.Sprintf("%04X", xid>>20))
	if err := errors.Join(os.WriteFile(segment, make([]byte, 256<<10), 0o600), os.Chown(segment, int(owner.Uid), int(owner.Gid))); err != nil {
		t.Fatal(err)
	}
	reset := exec.CommandContext(t.Context(), server.Binaries.Path("pg_resetwal"), "-x", fmt.Sprint(xid), "-D", data)
	reset.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	if out, err := reset.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := server.Restart(t.Context(), pgserver.Fast); err != nil {
		t.Fatal(err)
	}
}

// How long the copy takes decides how much WAL the slot keeps.
func TestTimeOfTheCopyAndRoomForTheSlot(t *testing.T) {
	t.Parallel()
	p := between(t, pgtest.Server(t, pgtest.Setting("max_slot_wal_keep_size", "2GB")), pgtest.Shared(t))
	p.source.Exec(t, `create table a (id int primary key, v text); insert into a select n, n from generate_series(1, 20000) n`)
	p.source.Exec(t, `analyze`)
	p.check(t).mustPass(t, "COPY_ESTIMATE", "SLOT_ROOM", "TARGET_SPACE")

	p.spec.Throttle.Full.RowsPerSecond = 2
	stop := write(t, p.source)
	items := p.check(t)
	stop()
	items.mustBe(t, "COPY_ESTIMATE", migration.ItemNotice, "2h47m", "throttle.full.rowsPerSecond", "1 table")
	item := items.mustBe(t, "SLOT_ROOM", migration.ItemAlert, "at most 2 GB", "2h47m", "in the last 2", "max_slot_wal_keep_size")
	apply(t, p.source, item.Fix)
	p.source.WaitUntil(t, `select current_setting('max_slot_wal_keep_size') <> '2GB'`)
	p.check(t).mustPass(t, "SLOT_ROOM")

	p.source.Exec(t, `alter system set max_slot_wal_keep_size = -1`)
	p.source.Exec(t, `select pg_reload_conf()`)
	p.source.WaitUntil(t, `select current_setting('max_slot_wal_keep_size') = '-1'`)
	stop = write(t, p.source)
	p.check(t).mustBe(t, "SLOT_ROOM", migration.ItemNotice, "without limit")
	stop()
	p.source.Exec(t, `insert into a select n, repeat('x', 1000) from generate_series(20001, 100000) n`)
	p.check(t).mustBe(t, "TARGET_SPACE", migration.ItemNotice, "cannot be known", "bytes", "max_wal_size")
}

// write fills the log until it is stopped.
func write(t *testing.T, db *pgtest.DB) (stop func()) {
	t.Helper()
	conn := db.Conn(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = conn.Exec(ctx, `select pg_logical_emit_message(false, 'load', repeat('x', 1000000))`)
		}
		done <- err
	}()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func TestBusyServers(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.check(t).mustPass(t, "LOAD")
	for _, db := range []*pgtest.DB{p.source, p.target} {
		busy := db.Conn(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { _, err := busy.Exec(ctx, "select pg_sleep(600)"); done <- err }()
		db.WaitUntil(t, fmt.Sprintf("select exists (select from pg_stat_activity where pid = %d and state = 'active')", busy.PgConn().PID()))
		side := migration.Source
		if db == p.target {
			side = migration.Target
		}
		p.patience = time.Nanosecond
		mustRead(t, p.check(t).item(t, "LOAD", side), migration.ItemNotice, fmt.Sprintf("pid %d", busy.PgConn().PID()), "max_connections")
		p.patience = time.Hour
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// Slots and subscriptions belong to a server, and others may depend on them.
func TestSlotsAndSubscriptionsOfOthers(t *testing.T) {
	t.Parallel()
	busy := pgtest.Server(t)
	p := between(t, busy, busy)
	const table = `create table a (id int primary key); create table b (id int primary key)`
	p.source.Exec(t, table)
	p.check(t).mustPass(t, "ORPHAN_SLOTS", "OTHER_SLOTS", "SUBSCRIPTIONS")

	p.source.Exec(t, `select pg_create_logical_replication_slot('etl', 'test_decoding')`)
	p.source.Exec(t, `select pg_create_logical_replication_slot('dts_sync_gone', 'pgoutput')`)
	items := p.check(t)
	items.mustBe(t, "OTHER_SLOTS", migration.ItemNotice, "etl (test_decoding)", "do not travel")
	orphan := items.mustBe(t, "ORPHAN_SLOTS", migration.ItemNotice, "dts_sync_gone in database "+p.source.Name)
	apply(t, p.source, orphan.Fix)
	p.source.Exec(t, `select pg_drop_replication_slot('etl')`)
	p.check(t).mustPass(t, "ORPHAN_SLOTS", "OTHER_SLOTS")

	subscribe(t, p)
	item := p.check(t).item(t, "SUBSCRIPTIONS", migration.Target)
	mustRead(t, item, migration.ItemAlert, "public.a (feed)", `alter subscription "feed" disable;`)
	turned := *p
	turned.source, turned.target = p.target, p.source
	mustRead(t, turned.check(t).item(t, "SUBSCRIPTIONS", migration.Source), migration.ItemNotice, "public.a (feed)", "do not travel")
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.b"}} }).check(t).mustPass(t, "SUBSCRIPTIONS")
	p.of(func(*migration.Spec) {})
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "SUBSCRIPTIONS")
}

// subscribe lets table a of the target follow the source's.
func subscribe(t *testing.T, p *pair) {
	t.Helper()
	p.target.Exec(t, `create table a (id int primary key); create table b (id int primary key)`)
	p.source.Exec(t, `create publication feed for table a`)
	p.source.Exec(t, `select pg_create_logical_replication_slot('feed', 'pgoutput')`)
	p.target.Exec(t, fmt.Sprintf(`create subscription feed connection '%s' publication feed with (create_slot = false, copy_data = false)`, p.source.URI))
	later(t, p.target, "drop subscription feed")
	later(t, p.target, "alter subscription feed set (slot_name = none)")
	later(t, p.target, "alter subscription feed disable")
}

// A slot of ours that somebody reads must be free before it can be dropped, and the fix must wait for that.
func TestOwnSlotThatSomebodyReads(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	slot := p.spec.ID.Slot()
	conn, err := server(t, migration.Source, endpoint(p.source, "")).Replication(t.Context(), "stranger", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := pglogrepl.CreateReplicationSlot(t.Context(), conn, slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{}); err != nil {
		t.Fatal(err)
	}
	p.source.Exec(t, `create publication p`)
	options := pglogrepl.StartReplicationOptions{PluginArgs: []string{"proto_version '1'", "publication_names 'p'"}}
	if err := pglogrepl.StartReplication(t.Context(), conn, slot, 0, options); err != nil {
		t.Fatal(err)
	}
	item := p.check(t).mustBe(t, "OWN_SLOT", migration.ItemFailed, "somebody reads slot "+slot)
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "OWN_SLOT")
}

// mustHoldUpASlot proves that what LONG_TRANSACTIONS names is what a slot waits for, and nothing else is.
func (p *pair) mustHoldUpASlot(t *testing.T) {
	t.Helper()
	reader, writer := p.source.Conn(t), p.source.Conn(t)
	for conn, sql := range map[*pgx.Conn]string{
		reader: "begin isolation level repeatable read; select count(*) from pg_class",
		writer: "begin; create table held (id int)",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	maker, made := p.source.Conn(t), make(chan error, 1)
	go func() {
		_, err := maker.Exec(context.Background(), "select pg_create_logical_replication_slot('held', 'pgoutput')")
		made <- err
	}()
	p.source.WaitUntil(t, fmt.Sprintf("select %d = any (pg_blocking_pids(%d))", writer.PgConn().PID(), maker.PgConn().PID()))

	p.patience = time.Nanosecond
	item := p.check(t).mustBe(t, "LONG_TRANSACTIONS", migration.ItemAlert, fmt.Sprintf("pid %d", writer.PgConn().PID()))
	if strings.Contains(item.Found, fmt.Sprintf("pid %d ", reader.PgConn().PID())) {
		t.Errorf("a reader holds up no slot: %s", item.Found)
	}
	apply(t, p.source, item.Fix)
	var ended *pgconn.PgError
	if err := <-made; err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	p.source.Exec(t, "select pg_drop_replication_slot('held')")
}
