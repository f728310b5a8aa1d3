package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/workflows/migration"
)

// moments are the instants at which the process is killed, in the order in which a migration comes by them. The count
// is the hit that kills.
var moments = []string{
	"prepare-recorded@1", "prepare-created@1", "schema-object@5", "schema-object@9",
	"copy-rows@2", "copy-rows@5", "copy-rows@7", "copy-before-commit@2", "copy-before-commit@3", "copy-before-commit@2",
	"copy-after-commit@2", "copy-after-commit@1", "copy-after-commit@1", "table-index@1", "table-index@2",
	"apply-batch@2", "apply-batch@1", "apply-before-commit@1", "apply-before-commit@2", "apply-after-commit@1",
	"constraint-object@1", "constraint-object@2", "constraint-object@2",
	"apply-batch@20", "apply-before-commit@30", "apply-after-commit@40",
	"cutover-fenced@1", "cutover-fenced@1", "cutover-fenced@1",
	"cutover-marked@1", "cutover-marked@1", "cutover-marked@1",
	"cutover-drained@1", "cutover-drained@1", "cutover-drained@1",
	"cutover-verified@1", "cutover-verified@1", "cutover-verified@1",
	"cutover-sequences@1", "cutover-sequences@1", "cutover-sequences@1",
	"cutover-blocked@1", "cutover-blocked@1", "cutover-blocked@1",
	"cutover-opened@1",
}

// Killed at every instant, the same command goes on where it was, and in the end everything is equal.
func TestKilledAtEveryInstant(t *testing.T) {
	s := newScenario(t, "cutover: {mode: auto, steadyFor: 1s}\n")
	s.ballast()
	writers := s.writers(2)
	log := filepath.Join(s.dir, "failpoints")
	var slowest time.Duration
	for i, moment := range moments {
		name, hit, _ := strings.Cut(moment, "@")
		fired := s.killAt(log, name, hit)
		slowest = max(slowest, fired)
		t.Logf("kill %d at %s after %s", i+1, moment, fired.Round(100*time.Millisecond))
	}
	require.Equal(t, 0, s.start(nil, "run", "-f", s.file).wait(3*time.Minute))

	outcome := writers.Stop()
	s.mustBeEqual(outcome)
	s.mustLeaveNothing()
	report := s.report()
	require.Equal(t, migration.PhaseFinished, report.State)
	require.Zero(t, report.Conflicts, "strict counting must find every row as it should be")
	// Each kill in the copy costs at most the chunks in flight: two lanes.
	require.LessOrEqual(t, report.Recopied, int64(2*copyKills()))
	t.Logf("%d kills, %d chunks copied again of %d, write pause %s, %d commits of clients",
		len(moments), report.Recopied, report.Chunks, report.WriteBlocked, outcome.Commits())
}

func copyKills() int {
	n := 0
	for _, moment := range moments {
		if strings.HasPrefix(moment, "copy-") {
			n++
		}
	}
	return n
}

// ballast gives the copy something to be killed in: tables of a few megabytes with keys and indexes.
func (s *scenario) ballast() {
	s.from.Exec(s.t, "create schema ballast")
	for i := range 8 {
		s.from.Exec(s.t, fmt.Sprintf(`create table ballast.t%d as select i as id, md5(i::text) as a, repeat(md5((i*7)::text), 20) as b
			from generate_series(1, 15000) i`, i))
		s.from.Exec(s.t, fmt.Sprintf("alter table ballast.t%d add primary key (id)", i))
		s.from.Exec(s.t, fmt.Sprintf("create index on ballast.t%d (a)", i))
		s.from.Exec(s.t, fmt.Sprintf("create unique index on ballast.t%d (id, a)", i))
	}
}

// killAt runs the migration until the named instant kills it. It fails when the instant was not reached.
func (s *scenario) killAt(log, name, hit string) time.Duration {
	s.t.Helper()
	_ = os.Remove(log)
	started := time.Now()
	p := s.start([]string{"PGDTS_FAILPOINT=" + name + "=kill@" + hit, "PGDTS_FAILPOINT_LOG=" + log}, "run", "-f", s.file)
	code := p.wait(2 * time.Minute)
	fired, _ := os.ReadFile(log)
	require.Contains(s.t, string(fired), name+"=kill", "pgdts ended (%d) without passing %s\n%s%s", code, name, p.out.String(), p.err.String())
	require.True(s.t, killed(p), "pgdts was to be killed at %s", name)
	return time.Since(started)
}

func killed(p *process) bool {
	status, ok := p.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// Killed at random moments, with no regard to what it does.
func TestKilledAtRandomMoments(t *testing.T) {
	s := newScenario(t, "cutover: {mode: auto, steadyFor: 2s}\n")
	s.ballast()
	writers := s.writers(3)
	random := rand.New(rand.NewPCG(3, 3))
	kills := 0
	for kills < 8 {
		p := s.start(nil, "run", "-f", s.file)
		select {
		case <-p.done:
			require.Equal(t, 0, p.ProcessState.ExitCode())
			kills = 8 // finished before we came to it
		case <-time.After(time.Duration(1000+random.IntN(5000)) * time.Millisecond):
			require.NoError(t, p.Process.Kill())
			p.wait(10 * time.Second)
			kills++
		}
	}
	require.Equal(t, 0, s.start(nil, "run", "-f", s.file).wait(3*time.Minute))
	outcome := writers.Stop()
	s.mustBeEqual(outcome)
	s.mustLeaveNothing()
	require.Zero(t, s.report().Conflicts)
	s.record(t, "killed-at-random")
}

// After SIGKILL the next run works again within ten seconds.
func TestResumesWithinTenSeconds(t *testing.T) {
	s := newScenario(t, "")
	writers := s.writers(4)
	p := s.start(nil, "run", "-f", s.file)
	s.await(p, "caught up", func(status migration.Status) bool {
		return status.Phase == migration.PhaseIncremental && status.CaughtUp
	})
	require.NoError(t, p.Process.Kill())
	p.wait(10 * time.Second)
	applied := s.to.Query(t, "select end_lsn::text from dts_sync.progress")[0][0]
	started := time.Now()
	p = s.start(nil, "run", "-f", s.file)
	s.to.WaitUntil(t, fmt.Sprintf("select end_lsn > '%s' from dts_sync.progress", applied))
	resumed := time.Since(started)
	t.Logf("applied again after %s", resumed.Round(10*time.Millisecond))
	require.Less(t, resumed, 10*time.Second)

	second := s.command("run", "-f", s.file)
	require.Error(t, second.Run())
	require.Contains(t, second.err.String(), fmt.Sprint(p.Process.Pid), "a second run beside a living one names it")
	code, _, errs := s.run("cutover", "-f", s.file)
	require.Equal(t, 0, code, errs)
	require.Equal(t, 0, p.wait(2*time.Minute))
	s.mustBeEqual(writers.Stop())
}
