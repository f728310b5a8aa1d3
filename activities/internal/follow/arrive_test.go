package follow

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const shop = `
create table account (id int primary key, balance int not null, note text);
create table history (account int, delta int, at timestamptz default now())`

// exact plans the tables as copied while they are empty, so that every change must fit exactly.
func exact(t *testing.T, b *slottest.Bench) {
	t.Helper()
	read, err := catalog.Tables(t.Context(), b.Connect(t, b.Source))
	require.NoError(t, err)
	var tables []ledger.Table
	for _, table := range read {
		tables = append(tables, ledger.Table{Table: mapping.Whole(table), Mode: table.Mode(b.Spec.WithoutKey), Published: table.Published(b.Spec.WithoutKey)})
	}
	l := b.Ledger(t)
	require.NoError(t, pgx.BeginFunc(t.Context(), l.Conn, func(tx pgx.Tx) error {
		return ledger.WritePlan(t.Context(), tx, b.Spec.ID, tables, nil)
	}))
	b.To.Exec(t, `update dts_sync.tbl t set stage = 'exact', smin = m.start_snapshot, smax = m.start_snapshot, hi_lsn = m.start_lsn
		from dts_sync.migration m where m.id = t.migration`)
}

func TestChangesArriveThroughRestarts(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), shop)
	b.To.Exec(t, shop)
	b.Prepare(t)
	exact(t, b)
	writer := b.From.Conn(t)
	for round := range 5 {
		f := New(Config{
			Source: b.Source, Target: b.Target, Spec: b.Spec, Run: slottest.Run, Report: b.Report, Logger: zaptest.NewLogger(t),
		})
		f.aheadBytes = 4 << 10
		var stop func() error
		for i := range 400 {
			if i == 200 { // the first half waits for it
				stop = start(t, f)
			}
			_, err := writer.Exec(t.Context(), fmt.Sprintf(`
				insert into account values (%[1]d, 0, repeat('x', %[2]d)) on conflict (id) do update set balance = account.balance + %[2]d;
				insert into history values (%[1]d, %[2]d);
				delete from account where id = %[3]d`, (i*7+round)%50, i*10, (i*13)%50))
			require.NoError(t, err)
		}
		if round%2 == 0 {
			require.NoError(t, stop()) // in the middle of it
			continue
		}
		marker, err := f.Mark(t.Context())
		require.NoError(t, err)
		_, err = f.AwaitMarker(within(t, 30*time.Second), marker)
		require.NoError(t, err)
		pgtest.MustEqual(t, b.From, b.To)
		require.NoError(t, stop())
	}
	f := New(Config{
		Source: b.Source, Target: b.Target, Spec: b.Spec, Run: slottest.Run, Report: b.Report, Logger: zaptest.NewLogger(t),
	})
	stop := start(t, f)
	marker, err := f.Mark(t.Context())
	require.NoError(t, err)
	_, err = f.AwaitMarker(within(t, 30*time.Second), marker)
	require.NoError(t, err)
	require.NoError(t, f.AwaitExact(within(t, 30*time.Second)))
	beat := f.Status()
	require.Equal(t, migration.TableCounts{Total: 2, Copied: 2, Exact: 2}, *beat.Tables)
	require.GreaterOrEqual(t, beat.Changes, int64(2000))
	pgtest.MustEqual(t, b.From, b.To)
	require.NoError(t, stop())
}
