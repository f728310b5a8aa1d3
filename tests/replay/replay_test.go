// Package replay replays recorded executions against the workflow code as it is: a change that would break a running
// migration fails here. The histories are golden files, recorded by `make record` on a released commit.
package replay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/pgdts/pgdts/worker"
)

func histories(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, paths, "a replay test without histories proves nothing")
	return paths
}

func replay(path string) error {
	replayer := sdkworker.NewWorkflowReplayer()
	worker.RegisterWorkflows(replayer)
	return replayer.ReplayWorkflowHistoryFromJSONFile(nil, path)
}

func TestRecordedMigrationsStillReplay(t *testing.T) {
	for _, path := range histories(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			require.NoError(t, replay(path))
		})
	}
}

// The test above must be able to fail: a history in which the copy came before the schema is not ours.
func TestForeignHistoryIsNoticed(t *testing.T) {
	content, err := os.ReadFile(histories(t)[0])
	require.NoError(t, err)
	swapped := strings.NewReplacer(`"name": "Schema"`, `"name": "Plan"`, `"name": "Plan"`, `"name": "Schema"`).Replace(string(content))
	require.NotEqual(t, string(content), swapped)
	path := filepath.Join(t.TempDir(), "swapped.json")
	require.NoError(t, os.WriteFile(path, []byte(swapped), 0o600))
	require.Error(t, replay(path))
}
