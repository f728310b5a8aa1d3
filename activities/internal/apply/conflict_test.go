package apply_test

import (
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const conflictTable = "create table a (id int primary key, v text, big text); alter table a alter big set storage external; create table other (id int primary key)"

// Each meddling makes the target differ before the script's changes arrive.
var meddlings = []struct {
	name, before, meddle, sql string
	conflicts                 int64
}{
	{"row was there", "", "insert into a values (1, 'foreign')", "insert into a values (1, 'ours', repeat('x', 9000))", 1},
	{"row of an update was missing", "insert into a values (1, 'a'), (2, 'b')", "delete from a where id = 1", "update a set v = 'c'", 1},
	{
		"row of an update with unchanged toast was missing", "insert into a values (1, 'a', repeat('x', 9000)), (2, 'b', null)", "delete from a where id = 1",
		"update a set v = 'c'; update a set v = 'd'; update a set v = 'e' where id = 1", 1,
	},
	{"row of a delete was missing", "insert into a values (1, 'a'), (2, 'b')", "delete from a where id = 1", "delete from a", 1},
	{"new key was taken", "insert into a values (1, 'a', repeat('x', 9000))", "insert into a values (2, 'foreign', 'foreign')", "update a set id = 2", 1},
	{"old key was missing", "insert into a values (1, 'a', repeat('x', 9000)), (5, 'b', null)", "delete from a where id = 1", "update a set id = id + 1", 1},
	{"row that came and went was there", "", "insert into a values (1, 'foreign')", "begin; insert into a values (1, 'x'); delete from a where id = 1; commit; insert into a values (3)", 1},
	{
		"many, with work around them", "insert into a select i, 'x' from generate_series(1, 100) i", "delete from a where id % 10 = 0; insert into a values (200, 'foreign')",
		"insert into other values (1); update a set v = v || '!'; delete from a where id > 90; insert into a values (200, 'ours'); insert into other values (2)", 11,
	},
}

func TestSourceWinsOverForeignRowsAndSaysSo(t *testing.T) {
	t.Parallel()
	for _, m := range meddlings {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, conflictTable)
			r.script(m.before)
			r.drain(0)
			r.target.Exec(t, m.meddle)
			r.script(m.sql)
			r.drain(0)
			r.mustEqual()
			n := pgtest.Value[int64](t, r.target, "select sum(conflicts)::int8 from dts_sync.tbl")
			rows := pgtest.Value[int64](t, r.target, "select count(*) from dts_sync.conflict where key like 'id=%'")
			if n != m.conflicts || rows != m.conflicts || r.applier.Stats().Conflicts != m.conflicts {
				t.Fatalf("%d conflicts, %d rows of evidence, %d in the statistics, want %d: %v", n, rows, r.applier.Stats().Conflicts,
					m.conflicts, r.target.Query(t, "select op, key, what from dts_sync.conflict"))
			}
			// What comes after the conflict fits again.
			r.script("update a set v = 'last'; delete from a where id % 2 = 0")
			r.drain(0)
			r.mustEqual()
			if now := r.applier.Stats().Conflicts; now != m.conflicts {
				t.Fatalf("%d conflicts after the rows were mended", now-m.conflicts)
			}
		})
	}
}

func TestStopLeavesTheTargetAloneAndNamesTheRowOnlyInTheLedger(t *testing.T) {
	t.Parallel()
	r := newRig(t, conflictTable)
	r.spec.OnConflict = migration.StopOnConflict
	r.script("insert into a values (12345, 'a'), (2, 'b')")
	r.drain(0)
	r.target.Exec(t, "delete from a where id = 12345")
	before := r.applier.Position()
	r.script("insert into other values (1); update a set v = 'secret'")
	fault := mustFault(t, r.tryDrain(0), migration.FaultConflict)
	if strings.Contains(fault.Error(), "12345") || strings.Contains(fault.Error(), "secret") || !strings.Contains(fault.Error(), "public.a") {
		t.Fatalf("fault says %q", fault)
	}
	if key := pgtest.Value[string](t, r.target, "select key from dts_sync.conflict"); key != "id=12345" {
		t.Fatalf("evidence is %q", key)
	}
	if n := pgtest.Value[int](t, r.target, "select count(*) from other"); n != 0 {
		t.Fatal("part of the batch was applied")
	}
	if err := r.applier.Apply(t.Context(), nil); err == nil {
		t.Fatal("went on after a fault")
	}
	if r.start().Position() != before {
		t.Fatal("position moved")
	}
	r.target.Exec(t, "insert into a values (12345, 'a')") // a person mends the row
	r.drain(0)
	r.mustEqual()
}

func TestConstraintOnlyTheTargetHasIsAConflict(t *testing.T) {
	t.Parallel()
	r := newRig(t, conflictTable)
	r.target.Exec(t, "alter table a add constraint short check (length(v) < 3)")
	r.script("insert into a values (1, 'long text')")
	fault := mustFault(t, r.tryDrain(0), migration.FaultConflict)
	if fault.SQLState != "23514" || !strings.Contains(fault.Hint, "resume") || strings.Contains(fault.Error(), "long text") {
		t.Fatalf("fault is %+v", fault)
	}
	r.target.Exec(t, "alter table a drop constraint short")
	r.start()
	r.drain(0)
	r.mustEqual()
}

func TestForeignRowWithoutKeyIsToldApart(t *testing.T) {
	t.Parallel()
	r := newRig(t, "create table a (x int, v text); alter table a replica identity full")
	r.script("insert into a values (1, 'a'), (1, 'a'), (2, 'b')")
	r.drain(0)
	r.target.Exec(t, "delete from a where x = 2")
	r.script("update a set v = 'c' where x = 2; delete from a where ctid = (select min(ctid) from a where x = 1)")
	r.drain(0)
	r.mustEqual()
	if n := r.applier.Stats().Conflicts; n != 1 {
		t.Fatalf("%d conflicts", n)
	}
}

func mustFail(t *testing.T, err error, kind migration.FaultKind) {
	t.Helper()
	_ = mustFault(t, err, kind)
}

func mustFault(t *testing.T, err error, kind migration.FaultKind) *migration.Fault {
	t.Helper()
	fault, ok := migration.AsFault(err)
	if !ok || fault.Kind != kind {
		t.Fatalf("error is %v, want a fault of kind %s", err, kind)
	}
	return fault
}
