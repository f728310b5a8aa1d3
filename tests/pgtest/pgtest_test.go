package pgtest

import (
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgserver"
)

func TestMain(m *testing.M) { Main(m) }

func TestDatabaseIsTheTestsOwn(t *testing.T) {
	t.Parallel()
	db := Database(t, Shared(t))
	db.Exec(t, "create table a (id int primary key, note text); insert into a values (1, null), (2, 'x')")
	rows := db.Query(t, "select id, note from a where id >= $1 order by id", 1)
	if len(rows) != 2 || rows[0][1] != "NULL" || rows[1][1] != "x" {
		t.Fatalf("rows are %v", rows)
	}
	if got := Value[string](t, db, "select current_database()"); got != db.Name {
		t.Fatalf("connected to %s, not %s", got, db.Name)
	}
	db.WaitUntil(t, "select count(*) = 2 from a")
}

// Sessions, slots in use and prepared transactions all keep a database from being dropped.
func TestDatabaseIsDroppedWhateverHoldsIt(t *testing.T) {
	t.Parallel()
	server := Shared(t)
	var name string
	t.Run("hold", func(t *testing.T) {
		db := Database(t, server)
		name = db.Name
		db.Exec(t, "create table a (id int)")
		db.Exec(t, "select pg_create_logical_replication_slot('slot_'||current_database(), 'pgoutput')")
		conn := db.Conn(t)
		if _, err := conn.Exec(t.Context(), "begin; lock table a"); err != nil {
			t.Fatal(err)
		}
		two := db.Conn(t)
		if _, err := two.Exec(t.Context(), "begin; select txid_current(); prepare transaction 'it''s '"); err != nil {
			t.Fatal(err)
		}
	})
	all := Database(t, server)
	for _, table := range []string{"pg_database where datname", "pg_replication_slots where database"} {
		if left := Value[int](t, all, "select count(*) from "+table+" = $1", name); left != 0 {
			t.Errorf("%s: %d left", table, left)
		}
	}
}

func TestHashesIgnoreOrderAndSeeValues(t *testing.T) {
	t.Parallel()
	server := Shared(t)
	source, target := Database(t, server), Database(t, server)
	const schema = `create schema "S t"; create table "S t"."A.b" (id int, t timestamptz, f float8, d interval);
		create table parts (id int) partition by range (id);
		create table part_1 partition of parts for values from (0) to (10);
		create schema dts_sync; create table dts_sync.own (id int);`
	source.Exec(t, schema+`insert into "S t"."A.b" values (1, '2020-01-01 00:00+02', 0.1, '1 day'), (2, null, 'nan', null)`)
	target.Exec(t, schema+`insert into "S t"."A.b" values (2, null, 'nan', null), (1, '2019-12-31 22:00+00', 0.1, '1 day')`)
	target.Exec(t, "alter database "+target.Name+" set timezone = 'Asia/Tokyo'")
	source.Exec(t, "insert into parts values (3); insert into dts_sync.own values (1)")
	target.Exec(t, "insert into parts values (3)")
	MustEqual(t, source, target)
	if hashes := Hashes(t, source); len(hashes) != 2 {
		t.Errorf("tables are %v", hashes)
	}

	target.Exec(t, `update "S t"."A.b" set f = f + 1e-16 where id = 1; insert into parts values (4), (4)`)
	report := diff(t, source, target, nil)
	for _, want := range []string{`"S t"."A.b": source has 2 rows`, `only in source (1 times): (1,`, `only in target (2 times): (4)`} {
		if !strings.Contains(report, want) {
			t.Errorf("report lacks %q:\n%s", want, report)
		}
	}
	if report := diff(t, source, target, []string{"S t.A.b", "public.part_1"}); report != "" {
		t.Errorf("excepted tables are reported:\n%s", report)
	}
}

func TestPrivateServerHasItsSettings(t *testing.T) {
	t.Parallel()
	server := Server(t, Setting("max_replication_slots", "3"))
	db := Database(t, server)
	if got := Value[string](t, db, "select current_setting('max_replication_slots')"); got != "3" {
		t.Errorf("max_replication_slots is %s", got)
	}
	if err := server.Stop(pgserver.Fast); err != nil {
		t.Fatal(err)
	}
}

func TestMajorsCompare(t *testing.T) {
	t.Parallel()
	const rows = `create table a (id int, f float8, g float4[], n numeric, b bytea, i interval);
		insert into a select i, i / 7.0, array[i / 3.0], i / 7.0, decode('00ff', 'hex'), i * interval '1 hour' from generate_series(1, 100) i`
	source, target := Database(t, Server(t, Major(10))), Database(t, Shared(t))
	source.Exec(t, rows)
	target.Exec(t, rows)
	MustEqual(t, source, target)
}
