package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// live starts a migration and waits until it follows the source without delay.
func (s *scenario) live() *process {
	s.t.Helper()
	p := s.start(nil, "run", "-f", s.file)
	s.await(p, "caught up in incremental", func(status migration.Status) bool {
		return status.Phase == migration.PhaseIncremental && status.CaughtUp
	})
	return p
}

// cutOver asks for the cutover and requires that it succeeds.
func (s *scenario) cutOver(p *process) {
	s.t.Helper()
	code, out, errs := s.run("cutover", "-f", s.file)
	require.Equal(s.t, 0, code, out+errs)
	require.Equal(s.t, 0, p.wait(time.Minute))
}

// A table without key may have unique values: a value that was freed by a delete, which the stream does not carry, is
// taken again by an insert, which it does.
func TestFreedUniqueValueOfATableWithoutKeyIsTakenAgain(t *testing.T) {
	s := newScenario(t, "cutover: {steadyFor: 1s}\n")
	s.from.Exec(t, `create table loose (code text unique, n int); insert into loose values ('a', 1), ('b', 2);
		create table late (id int primary key deferrable initially deferred, n int); insert into late values (1, 1), (2, 2)`)
	p := s.live()
	s.from.Exec(t, `delete from loose where code = 'a'; insert into loose values ('a', 3);
		update late set id = 3 - id; delete from late where id = 1; insert into late values (1, 9)`)
	s.cutOver(p)
	pgtest.MustEqual(t, s.from, s.to)
}

// A table that was filled by itself and then attached to a published tree is not in the plan: its rows must not be
// forgotten in silence.
func TestRowsOfAnAttachedPartitionAreNotForgotten(t *testing.T) {
	s := newScenario(t, "cutover: {steadyFor: 1s}\n")
	s.from.Exec(t, `create table tree (id int primary key, v text) partition by range (id);
		create table tree_a partition of tree for values from (0) to (100); insert into tree values (1, 'a')`)
	p := s.live()
	s.from.Exec(t, `create table tree_b (like tree including all); insert into tree_b values (150, 'lost?');
		alter table tree attach partition tree_b for values from (100) to (200)`)
	code, out, errs := s.run("cutover", "-f", s.file)
	t.Logf("exit %d\n%s\n%s", code, out, errs)
	require.NotEqual(t, 0, code, "the cutover must not pass over rows that it does not have")
	_ = p
}

// A detached partition is in no publication any more: what is written to it must not be lost in silence.
func TestWritesToADetachedPartitionAreNotForgotten(t *testing.T) {
	s := newScenario(t, "cutover: {steadyFor: 1s, verify: counts}\n")
	s.from.Exec(t, `create table tree (id int primary key, v text) partition by range (id);
		create table tree_a partition of tree for values from (0) to (100); insert into tree values (1, 'a')`)
	p := s.live()
	s.from.Exec(t, `alter table tree detach partition tree_a; update tree_a set v = 'lost?'`)
	code, out, errs := s.run("cutover", "-f", s.file)
	t.Logf("exit %d\n%s\n%s", code, out, errs)
	require.NotEqual(t, 0, code, "the cutover must not pass over changes that it does not have")
	_ = p
}

// Tables made after the plan are not migrated; the report must say so.
func TestTableMadeAfterThePlanIsNoted(t *testing.T) {
	s := newScenario(t, "cutover: {steadyFor: 1s}\n")
	s.from.Exec(t, `create table old (id int primary key); insert into old values (1)`)
	p := s.live()
	s.from.Exec(t, `create table newcomer (id int primary key); insert into newcomer values (1)`)
	code, out, errs := s.run("cutover", "-f", s.file)
	t.Logf("exit %d\n%s\n%s", code, out, errs)
	if code == 0 {
		require.Equal(t, 0, p.wait(time.Minute))
		report := s.report()
		t.Logf("%+v", report)
		require.Contains(t, out+errs+p.out.String(), "newcomer")
	}
}
