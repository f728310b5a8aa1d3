package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/workflows/migration"
)

// A migration that was stopped in the copy is over until a person says --again; then it begins anew, is killed while it
// clears away, and still ends equal. What else is on the target stays.
func TestAgainBeginsAnew(t *testing.T) {
	s := newScenario(t, "cutover: {mode: auto, steadyFor: 1s}\n")
	s.ballast()
	writers := s.writers(11)
	s.to.Exec(t, "create schema theirs; create table theirs.t (id int primary key); insert into theirs.t values (1)")

	log, gate := filepath.Join(s.dir, "failpoints"), filepath.Join(s.dir, "gate")
	p := s.start([]string{"PGDTS_FAILPOINT=copy-before-commit=wait@6", "PGDTS_FAILPOINT_LOG=" + log, "PGDTS_FAILPOINT_GATE=" + gate},
		"run", "-f", s.file)
	s.awaitPhase(p, migration.PhaseCopy)
	s.to.WaitUntil(t, "select count(*) filter (where state = 'done') >= 4 from dts_sync.chunk")
	code, _, errs := s.run("stop", "-f", s.file)
	require.Equal(t, 0, code, errs)
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	require.Equal(t, exitOfAbandoned, p.wait(timeLimit))
	s.mustLeaveNothing()
	require.Equal(t, migration.PhaseStopped, s.report().State)

	code, out, errs := s.run("run", "-f", s.file)
	require.Equal(t, 0, code, errs)
	require.Contains(t, out, "--again", "why, and what to type")

	for _, moment := range []string{"undo-object", "restart-truncate"} {
		_ = os.Remove(log)
		p := s.start([]string{"PGDTS_FAILPOINT=" + moment + "=kill@1", "PGDTS_FAILPOINT_LOG=" + log}, "run", "-f", s.file, "--again")
		p.wait(timeLimit)
		fired, _ := os.ReadFile(log)
		require.Contains(t, string(fired), moment+"=kill", p.err.String())
	}
	p = s.start(nil, "run", "-f", s.file, "--again")
	require.Equal(t, 0, p.wait(timeLimit), p.err.String())
	outcome := writers.Stop()
	require.Equal(t, "1", s.to.Query(t, "select count(*) from theirs.t")[0][0])
	s.to.Exec(t, "drop schema theirs cascade")
	s.mustBeEqual(outcome)
	s.mustLeaveNothing()
	report := s.report()
	require.Equal(t, migration.PhaseFinished, report.State)
	require.Zero(t, report.Conflicts)

	// A target that was opened is not begun anew, whatever is said.
	code, _, errs = s.run("run", "-f", s.file, "--again")
	require.Equal(t, exitOfPrecheck, code, errs)
	require.Contains(t, errs, "never written again")
	s.mustBeEqual(outcome)
}

const (
	exitOfAbandoned = 1
	exitOfPrecheck  = 3
)
