package apply_test

import (
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Before 11 no catalog says what rows have that were there before a default; before 12 an enum grows outside transactions alone.
func TestOldServersFollowWhatTheyCanTell(t *testing.T) {
	t.Parallel()
	old := pgtest.Server(t, pgtest.Major(10))
	r := newRigOn(t, old, old, moody)
	r.spec.DDL = migration.DDLApplySafe
	r.script(newMoods)
	mustFail(t, r.tryDrain(0), migration.FaultOther)
	r.start()
	r.drain(0)
	r.script("alter table b add column n int; insert into b values (3, 4)")
	r.drain(0)
	r.mustEqual()
	r.script("alter table b add column d int default 7; insert into b values (5, 6, 8)")
	mustFail(t, r.tryDrain(0), migration.FaultDrift)
}
