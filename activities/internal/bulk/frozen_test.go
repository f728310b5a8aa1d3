package bulk_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
)

// A process that is stopped in the middle of chunks hears nothing: no time-out of its own ends what it holds.
func TestStoppedProcessNeitherBlocksItsChunksNorWritesThemLater(t *testing.T) {
	t.Parallel()
	b := newScatteredBench(t)
	b.source.Exec(t, "insert into keyless select 100, repeat('z', 300) from generate_series(1, 4000) g")
	b.plan()
	binary, gate := filepath.Join(t.TempDir(), "bulk.test"), filepath.Join(t.TempDir(), "gate-")
	out, err := exec.Command("go", "test", "-c", "-tags", "failpoint", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	spec, err := json.Marshal(b.config.Spec)
	require.NoError(t, err)
	child := exec.CommandContext(t.Context(), binary, "-test.run", "^TestCopyInChild$")
	child.Env = append(os.Environ(), "PGDTS_FAILPOINT=copy-before-commit=wait@6", "PGDTS_FAILPOINT_GATE="+gate, "COPY_SPEC="+string(spec))
	require.NoError(t, child.Start())
	b.target.WaitUntil(t, `select exists (select from pg_stat_activity where state = 'idle in transaction' and application_name like '%/copy-%'
		and datname = current_database() and query like '%update dts_sync.chunk set state%') and (select count(*) >= 5 from dts_sync.chunk where state = 'done')`)
	require.NoError(t, child.Process.Signal(syscall.SIGSTOP))
	b.copy(2) // other attempts at the same lanes
	pgtest.MustEqual(t, b.source, b.target)
	require.NoError(t, os.WriteFile(gate+"copy-before-commit", nil, 0o600))
	require.NoError(t, child.Process.Signal(syscall.SIGCONT))
	require.Error(t, child.Wait(), "its lanes were taken over")
	pgtest.MustEqual(t, b.source, b.target)
	require.Equal(t, "0", b.target.Query(t, "select count(*) from dts_sync.tbl where stage <> 'band'")[0][0])
}
