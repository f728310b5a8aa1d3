package cutover_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// An attempt that was frozen before the opening wakes up when another one has opened the target: it must not lift the
// other's fence, or both sides could be written.
func TestFrozenAttemptDoesNotLiftTheFenceOfItsSuccessor(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	holder := b.To.Conn(t)
	atOpening, frozen, thaw := make(chan struct{}), make(chan struct{}), make(chan struct{})
	config := b.at(t, "open", func() {
		_, err := holder.Exec(context.Background(), "begin; select from dts_sync.migration for key share")
		require.NoError(t, err)
		close(atOpening)
	})
	config.Logger = zaptest.NewLogger(t, zaptest.WrapOptions(zap.Hooks(func(e zapcore.Entry) error {
		if e.Message == "gave up the cutover" {
			close(frozen)
			<-thaw
		}
		return nil
	})))
	var first sync.WaitGroup
	var firstErr error
	first.Go(func() { _, firstErr = cutover.Run(context.Background(), config) })
	<-atOpening
	b.To.WaitUntil(t, "select exists (select from pg_locks where not granted and locktype in ('tuple', 'transactionid'))")
	second := b.config(t)
	var secondErr error
	first.Go(func() { _, secondErr = cutover.Run(context.Background(), second) })
	<-frozen
	_, err := holder.Exec(t.Context(), "rollback")
	require.NoError(t, err)
	b.To.WaitUntil(t, "select opened_at is not null from dts_sync.migration")
	close(thaw)
	first.Wait()
	require.Error(t, firstErr)
	require.NoError(t, secondErr)
	_, err = b.From.Conn(t).Exec(t.Context(), "insert into customer values (5000, 'written to the old source')")
	require.ErrorContains(t, err, "has moved", "the source takes writes although the target is open")
}

// Rows of a table that was filled by itself and then attached to a migrated tree were never copied, and no table of the
// plan holds them.
func TestRowsOfAnAttachedPartitionAreNotForgotten(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.From.Exec(t, `create table part_3 (like part including all); insert into part_3 values (1, '2022-06-01');
		alter table part attach partition part_3 for values from ('2022-01-01') to ('2023-01-01')`)
	_, err := b.run(t)
	mustMiss(t, "public.part_3", err)
	b.To.Exec(t, "create table part_3 partition of part for values from ('2022-01-01') to ('2023-01-01')")
	_, err = b.run(t)
	fault := slottest.MustFault(t, migration.FaultNotReady, err)
	require.Contains(t, fault.Error(), "differ")
	b.mustBeAsBefore(t)
}

// mustMiss asks that a cutover was refused because changes of a table are missing: a gate says so, or the stream, whoever looks first.
func mustMiss(t *testing.T, table string, err error) {
	t.Helper()
	fault, ok := migration.AsFault(err)
	require.True(t, ok, "no fault: %v", err)
	require.Contains(t, []migration.FaultKind{migration.FaultNotReady, migration.FaultDrift}, fault.Kind, "%v", err)
	require.Equal(t, table, fault.Object)
}

// A partition that was detached is in no publication any more: what is written to it then is in no stream.
func TestWritesToADetachedPartitionAreNotForgotten(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, func(s *migration.Spec) { s.Cutover.Verify = "counts" })
	b.From.Exec(t, `alter table part detach partition part_2; update part_2 set id = id + 1000`)
	_, err := b.run(t)
	mustMiss(t, "public.part_2", err)
	b.mustHaveLifted(t)
	b.mustNotGoOn(t, "public.part_2")
}

// A table that somebody took out of the publication is not in the stream any more.
func TestChangesOfATableTakenOutOfThePublicationAreNotForgotten(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop, func(s *migration.Spec) { s.Cutover.Verify = "counts" })
	b.From.Exec(t, `alter publication `+migration.Quote(b.Spec.ID.Publication())+` drop table purchase;
		update purchase set note = 'unseen'`)
	_, err := b.run(t)
	mustMiss(t, "public.purchase", err)
	b.mustHaveLifted(t)
	b.mustNotGoOn(t, "public.purchase")
}

// A partition that was made empty is streamed from its first row on: nothing stands in the way of the cutover.
func TestPartitionMadeSinceThePlanIsCutOver(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	for _, db := range []*pgtest.DB{b.To, b.From} {
		db.Exec(t, "create table part_3 partition of part for values from ('2022-01-01') to ('2023-01-01')")
	}
	b.From.Exec(t, "insert into part values (1, '2022-06-01'); update part set day = '2022-07-01' where day < '2021-01-01'")
	b.mustRun(t)
	pgtest.MustEqual(t, b.From, b.To)
}

// A table that was dropped since the plan is named before anybody is kept waiting.
func TestTableDroppedSinceThePlanIsNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.From.Exec(t, "drop table purchase")
	_, err := b.run(t)
	mustMiss(t, "public.purchase", err)
}

// A table that came into being between the publication and the plan must not be copied as if its changes would follow.
func TestTableMadeBeforeThePlanIsNotHalfMigrated(t *testing.T) {
	t.Parallel()
	b := bench{slottest.New(t, pgtest.Shared(t), shop)}
	b.Prepare(t)
	b.From.Exec(t, "create table early (id int primary key, v text); insert into early values (1, 'a')")
	b = incremental(t, b)
	require.Zero(t, pgtest.Value[int](t, b.To, "select count(*) from early"))
	b.From.Exec(t, "update early set v = 'unseen'")
	evidence := b.mustRun(t)
	require.Contains(t, strings.Join(evidence.Notes, " "), "public.early")
}

// A table made after the plan is not migrated: the evidence must say so.
func TestTableMadeAfterThePlanIsNoted(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.From.Exec(t, "create table newcomer (id int primary key)")
	evidence := b.mustRun(t)
	require.Contains(t, strings.Join(evidence.Notes, " "), "public.newcomer")
}

// What the stream does not carry may free a unique value that an insertion, which it does carry, takes again.
func TestFreedUniqueValueOfATableWithoutKeyIsTakenAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop+`;
		create table loose (code text unique, n int); insert into loose values ('a', 1), ('b', 2);
		create table late (id int primary key deferrable initially deferred, n int); insert into late values (1, 1), (2, 2);
		create table nothing (id int primary key, n int); alter table nothing replica identity nothing; insert into nothing values (1, 1), (2, 2);
		create table slot (during int4range, exclude using gist (during with &&)); insert into slot values ('[1,5)');`)
	b.From.Exec(t, `delete from loose where code = 'a'; insert into loose values ('a', 3);
		delete from late where id = 1; insert into late values (1, 9);
		delete from nothing where id = 1; insert into nothing values (1, 9);
		delete from slot; insert into slot values ('[2,3)')`)
	b.mustRun(t)
	pgtest.MustEqual(t, b.From, b.To)
}

// An end without a cutover copies nothing again: the report must name the tables whose changes were not in the stream.
func TestSettleNamesTablesThatChangedUnseen(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Shared(t), shop)
	b.From.Exec(t, "update log set what = 'unseen'; update scratch set v = 'unseen'; create table newcomer (id int)")
	b.From.WaitUntil(t, "select count(*) = 2 from pg_stat_user_tables where n_tup_upd > 0 and relname in ('log', 'scratch')")
	b.catchUp(t)
	evidence, err := cutover.Settle(t.Context(), b.config(t))
	require.NoError(t, err)
	notes := strings.Join(evidence.Notes, " ")
	for _, name := range []string{"public.log", "public.scratch", "public.newcomer"} {
		require.Contains(t, notes, name)
	}
}
