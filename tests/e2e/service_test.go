package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/workflows/migration"
)

// The same through `pgdts worker` and `pgdts start` against a Temporal service of its own, ordered about by the
// `temporal` command line.
func TestSeparateServiceWorkerAndStart(t *testing.T) {
	serveTemporal(t, filepath.Join(t.TempDir(), "temporal.db"), func(address string) {
		s := newScenario(t, "")
		s.env = []string{"TEMPORAL_ADDRESS=" + address}
		writers := s.writers(9)
		worker := s.start(nil, "worker")
		id := s.begin()

		var code int
		var errs string
		require.Eventually(t, func() bool { // a service that has just begun may be slow to answer
			code, _, errs = s.run("cutover", id)
			return !strings.Contains(errs, "deadline exceeded")
		}, time.Minute, 100*time.Millisecond)
		require.NotEqual(t, 0, code)
		require.Contains(t, errs, "incremental", "refused before incremental, and says when")

		s.awaitID(worker, id, "caught up", func(status migration.Status) bool {
			return status.Phase == migration.PhaseIncremental && status.CaughtUp
		})
		signal := exec.Command(temporalPath(t), "workflow", "signal", "--address", address, "-w", id, "--name", "cutover")
		output, err := signal.CombinedOutput()
		require.NoError(t, err, string(output))
		s.awaitID(worker, id, "finished", func(status migration.Status) bool { return status.Phase == migration.PhaseFinished })
		s.mustBeEqual(writers.Stop())
		s.mustLeaveNothing()
	})
}

// begin starts the migration on the service and returns its id.
func (s *scenario) begin() string {
	s.t.Helper()
	code, out, errs := s.run("start", "-f", s.file)
	require.Equal(s.t, 0, code, errs)
	id := lastWord(out, "pgdts/shop/")
	require.NotEmpty(s.t, id, out)
	return id
}

func lastWord(text, prefix string) string {
	for _, word := range strings.Fields(text) {
		if strings.HasPrefix(word, prefix) {
			return word
		}
	}
	return ""
}
