package slot_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestEachLevelIsToldOnceUntilItIsLeft(t *testing.T) {
	t.Parallel()
	core, lines := observer.New(zapcore.InfoLevel)
	meter := slot.NewMeter(zap.New(core))
	now := time.Unix(0, 0)
	var told []string
	var alerts []int
	for _, percent := range []int64{0, 49, 50, 51, 49, 46, 74, 77, 73, 71, 90, 120, 60, 49, 44, 50, 30} {
		now = now.Add(time.Second)
		wal := meter.Measure("s", slot.Status{Retained: percent << 20, Limit: 100 << 20}, now)
		alerts = append(alerts, wal.Alert)
		require.Equal(t, wal.Alert == 0, wal.Text(false) == "")
	}
	for _, line := range lines.All() {
		told = append(told, line.Level.String())
	}
	require.Equal(t, []int{0, 0, 50, 50, 50, 50, 50, 75, 75, 75, 90, 90, 50, 50, 0, 50, 0}, alerts)
	require.Equal(t, []string{"warn", "warn", "warn", "info", "info", "warn", "info"}, told)
}

// With a limit of its own on every look, no limit is never taken for one that is reached.
func TestWithoutALimitNothingIsInvented(t *testing.T) {
	t.Parallel()
	core, lines := observer.New(zapcore.InfoLevel)
	meter := slot.NewMeter(zap.New(core))
	for second := range 120 {
		wal := meter.Measure("s", slot.Status{Retained: int64(second) << 40}, time.Unix(int64(second), 0))
		require.Zero(t, wal.SecondsToLimit())
		require.Zero(t, wal.Alert)
		require.Empty(t, wal.Text(true))
	}
	require.Zero(t, lines.Len())
}

func TestGrowthIsThatOfTheLastMinutes(t *testing.T) {
	t.Parallel()
	run := func(retained func(second int) int64) migration.WAL {
		meter := slot.NewMeter(zap.NewNop())
		var wal migration.WAL
		for second := 0; second <= 600; second += 5 {
			wal = meter.Measure("s", slot.Status{Retained: retained(second), Limit: 10_000_000}, time.Unix(int64(second), 0))
			if second < 20 {
				require.Zero(t, wal.Growth)
			}
		}
		return wal
	}
	steady := run(func(second int) int64 { return int64(second) * 1000 })
	require.InDelta(t, 1000, steady.Growth, 60)
	require.InDelta(t, 9400, steady.SecondsToLimit(), 600)
	stalled := run(func(second int) int64 { return int64(max(0, second-420)) * 1000 })
	require.InDelta(t, 1000, stalled.Growth, 300, "what was before does not count")
	require.InDelta(t, -500, run(func(second int) int64 { return 400_000 - int64(second)*500 }).Growth, 60)
	saw := run(func(second int) int64 { return int64(second%40) * 100_000 })
	require.InDelta(t, 0, saw.Growth, 1, "a slot that is read moves in jumps")
	require.Zero(t, saw.SecondsToLimit())
}

// The limit is the source's own: with segments of 16 MB and checkpoints it is not just max_slot_wal_keep_size.
func TestLimitIsWhereTheSourceGivesTheSlotUp(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, pgtest.Setting("max_slot_wal_keep_size", "64MB"))
	b := slottest.New(t, server, someTables)
	b.Prepare(t)
	conn := b.Connect(t, b.Source)
	inspect := func() slot.Status {
		t.Helper()
		status, err := slot.Inspect(t.Context(), conn, b.Spec.ID.Slot())
		require.NoError(t, err)
		return status
	}
	empty := inspect()
	require.GreaterOrEqual(t, empty.Limit, int64(64<<20))
	require.LessOrEqual(t, empty.Limit, int64(64<<20+16<<20))
	for inspect().Retained < empty.Limit+1<<20 {
		require.Equal(t, empty.Limit, inspect().Limit)
		b.From.Exec(t, "insert into plain select repeat('x', 1000) from generate_series(1, 4000)")
	}
	over := inspect()
	require.Equal(t, empty.Limit, over.Limit, "nothing is left of the limit, and that is not none")
	wal := slot.NewMeter(zap.NewNop()).Measure("s", over, time.Now())
	require.Equal(t, 90, wal.Alert)
	require.Contains(t, wal.Text(false), "next checkpoint")
	b.From.Exec(t, "checkpoint")
	require.Equal(t, "lost", inspect().WALStatus)
	require.NoError(t, server.Set(t.Context(), "max_slot_wal_keep_size", "-1"))
	require.Zero(t, inspect().Limit)
}
