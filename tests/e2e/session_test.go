package e2e

import (
	"context"
	"encoding/json"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Who is told that eight connections are enough must not find a ninth refused in the middle of the copy.
func TestSessionsAreNoMoreThanThePrecheckHasSaid(t *testing.T) {
	t.Parallel()
	s := newScenario(t, "parallel: {copy: 3, index: 2}\nthrottle: {full: {megabytesPerSecond: 6}}\n")
	s.ballast()
	for _, column := range []string{"b", "id, b", "a, b"} { // several indexes of one table are built at once
		s.from.Exec(t, "create index on ballast.t1 ("+column+")")
	}
	said := s.sessionsSaid()
	p := s.start(nil, "run", "-f", s.file)
	var sampling sync.WaitGroup
	over := make(chan struct{})
	most := map[migration.Side]*int{migration.Source: new(int), migration.Target: new(int)}
	for side, db := range map[migration.Side]*pgtest.DB{migration.Source: s.from, migration.Target: s.to} {
		conn := db.Conn(t)
		sampling.Go(func() {
			for {
				var n int
				if conn.QueryRow(context.Background(), "select count(*) from pg_stat_activity where application_name like 'pgdts/%'").Scan(&n) == nil {
					*most[side] = max(*most[side], n)
				}
				select {
				case <-over:
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	s.await(p, "incremental", func(status migration.Status) bool {
		return status.Phase == migration.PhaseIncremental && status.CaughtUp
	})
	close(over)
	sampling.Wait()
	for side, n := range most {
		t.Logf("%s: %d sessions at most, %d were said", side, *n, said[side])
		require.LessOrEqual(t, *n, said[side])
		require.Greater(t, *n, 3, "lanes have sessions of their own")
	}
}

// sessionsSaid is what the precheck wants free on each side.
func (s *scenario) sessionsSaid() map[migration.Side]int {
	s.t.Helper()
	code, out, errs := s.run("check", "-f", s.file, "-o", "json")
	require.Zero(s.t, code, errs)
	var check migration.CheckResult
	require.NoError(s.t, json.Unmarshal([]byte(out), &check))
	said := map[migration.Side]int{}
	for _, item := range check.Items {
		if found := regexp.MustCompile(`and (\d+) are needed`).FindStringSubmatch(item.Found); found != nil {
			for _, side := range []migration.Side{migration.Source, migration.Target} {
				if item.Side == side {
					said[side], _ = strconv.Atoi(found[1])
				}
			}
		}
	}
	require.Len(s.t, said, 2, out)
	return said
}
