package bulk_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/bulk"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// copier runs the copy in processes of its own, which die at failpoints.
func (b *bench) copier() func(failpoint string) ([]byte, error) {
	b.Helper()
	binary := filepath.Join(b.TempDir(), "bulk.test")
	out, err := exec.Command("go", "test", "-c", "-tags", "failpoint", "-o", binary, ".").CombinedOutput()
	require.NoError(b, err, string(out))
	spec, err := json.Marshal(b.config.Spec)
	require.NoError(b, err)
	return func(failpoint string) ([]byte, error) {
		child := exec.CommandContext(b.Context(), binary, "-test.run", "^TestCopyInChild$")
		child.Env = append(os.Environ(), "PGDTS_FAILPOINT="+failpoint, "COPY_SPEC="+string(spec))
		return child.CombinedOutput()
	}
}

// TestCopyInChild is the process that the tests below kill; without them it does nothing.
func TestCopyInChild(t *testing.T) {
	if os.Getenv("COPY_SPEC") == "" {
		return
	}
	var config bulk.Config
	require.NoError(t, json.Unmarshal([]byte(os.Getenv("COPY_SPEC")), &config.Spec))
	var err error
	config.Source, err = pg.NewServer(migration.Source, config.Spec.Source, nil)
	require.NoError(t, err)
	config.Target, err = pg.NewServer(migration.Target, config.Spec.Target, nil)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), config.Spec.Target.URI)
	require.NoError(t, err)
	defer pg.Close(conn)
	enter := func(name string) ledger.Lane {
		lane, err := ledger.Ledger{ID: config.Spec.ID, Conn: conn}.Enter(t.Context(), run, name)
		require.NoError(t, err)
		return lane
	}
	var group errgroup.Group
	if !config.Spec.Has(migration.TypeIncremental) {
		lane := enter("snapshot")
		group.Go(func() error { return bulk.Hold(t.Context(), config, lane, quiet) })
	}
	for i := range 2 {
		lane := enter(fmt.Sprintf("copy-%d", i))
		group.Go(func() error {
			_, err := bulk.Run(t.Context(), config, lane, built{}, quiet)
			return err
		})
	}
	require.NoError(t, group.Wait())
}

// built has nothing to build.
type built struct{}

func (built) Key(context.Context, uint32) error     { return nil }
func (built) Indexes(context.Context, uint32) error { return nil }

func (built) Together(context.Context, []uint32) (bool, error) { return true, nil }

func TestKilledCopyUnderOneSnapshotIsOfOneMoment(t *testing.T) {
	t.Parallel()
	b := newHeldBench(t, pgtest.Shared(t), accounts)
	b.fillAccounts()
	b.plan()
	ctx, stop := context.WithCancel(t.Context())
	writers := b.transfer(ctx)
	die := b.copier()
	moments := []string{
		"copy-rows=kill@5", "restart-truncate=kill@1", "hold-emptied=kill@1", "copy-before-commit=kill@6", "copy-after-commit=kill@4", "table-index=kill@1",
	}
	for _, moment := range moments {
		out, err := die(moment)
		require.ErrorContains(t, err, "signal: killed", "%s: %s", moment, out)
	}
	out, err := die("")
	require.NoError(t, err, string(out))
	stop()
	require.NoError(t, writers.Wait())
	b.mustBeOneMoment(len(moments) + 1)
}

func TestKilledCopyKeepsAndListsRowsOnce(t *testing.T) {
	t.Parallel()
	ddl := "create table t (id int primary key, v text, pad text)"
	b := newMappedBench(t, ddl, ddl)
	b.source.Exec(t, "insert into t select g, 's', repeat('x', 200) from generate_series(1, 4000) g")
	b.target.Exec(t, "insert into t select g, 't' from generate_series(1, 4000, 400) g")
	b.config.Spec.Types, b.config.Spec.Conflict = copiedAndStreamed, migration.ConflictIgnore
	require.Greater(t, b.plan().Chunks, 8)
	die := b.copier()
	for _, moment := range []string{"copy-rows=kill@2", "copy-before-commit=kill@2", "copy-after-commit=kill@2"} {
		out, err := die(moment)
		require.ErrorContains(t, err, "signal: killed", "%s: %s", moment, out)
	}
	out, err := die("")
	require.NoError(t, err, string(out))
	require.Equal(t, [][]string{{"s", "3990"}, {"t", "10"}}, b.target.Query(t, "select v, count(*) from t group by 1 order by 1"))
	require.Equal(t, b.target.Query(t, "select 't', row(id)::text from t where v = 't' order by 2"), b.kept())
	require.Equal(t, [][]string{{"3990", "10"}}, b.target.Query(t, "select sum(rows), sum(kept) from dts_sync.chunk"))
}
