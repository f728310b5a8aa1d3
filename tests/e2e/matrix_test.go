package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/load"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// versions are all major versions of a source, and the newest is every source's second target.
var versions = []int{10, 11, 12, 13, 14, 15, 16, 17, 18}

// dumpable is the newest source whose schema the pg_dump of the machine is sure to read.
const dumpable = 15

// lap is one migration of the matrix.
type lap struct {
	from, to int
	types    string
}

// laps are all of them where PGDTS_MATRIX is "all", else those between the oldest and the newest, each to itself, too.
func laps() []lap {
	const rows, all = "[full, incremental]", "[schema, full, incremental]"
	if os.Getenv("PGDTS_MATRIX") != "all" {
		return []lap{{10, 18, rows}, {10, 10, all}, {18, 18, rows}}
	}
	var pairs []lap
	for _, from := range versions {
		newest := versions[len(versions)-1]
		pairs = append(pairs, lap{from, newest, rows})
		switch {
		case from <= dumpable:
			pairs = append(pairs, lap{from, from, all})
		case from < newest:
			pairs = append(pairs, lap{from, from, rows})
		}
	}
	return pairs
}

// Between any two versions a live database moves under writers, killed on its way, and nothing is lost, doubled or changed.
func TestMatrix(t *testing.T) {
	all := laps()
	lines := make([]string, len(all))
	t.Run("pairs", func(t *testing.T) {
		for i, l := range all {
			t.Run(fmt.Sprintf("%d to %d", l.from, l.to), func(t *testing.T) {
				t.Parallel()
				line := "FAILED"
				defer func() {
					if t.Skipped() {
						line = "skipped"
					}
					lines[i] = fmt.Sprintf("%4d → %-4d %-30s %s", l.from, l.to, l.types, line)
				}()
				line = l.run(t)
			})
		}
	})
	t.Logf("source → target, types, result\n%s", strings.Join(lines, "\n"))
}

// run returns a line of figures.
func (l lap) run(t *testing.T) string {
	s := newScenarioOn(t, pgtest.Server(t, pgtest.Major(l.from)), pgtest.Server(t, pgtest.Major(l.to)),
		"types: "+l.types+"\ncutover: {mode: auto, steadyFor: 1s, verify: hash}\n")
	schema := load.SchemaOf(l.from) + heavy
	s.from.Exec(t, schema)
	if !strings.Contains(l.types, "schema") {
		s.to.Exec(t, schema)
		empty(t, s.to)
	}
	s.from.Exec(t, heavyRows)
	writers := load.Start(context.Background(), load.Config{
		URI: s.from.URI, Clients: 3, Operations: load.OperationsOf(l.from), Seed: uint64(l.from*100 + l.to), Prepared: true,
		Pause: 5 * time.Millisecond, Persist: true,
	})
	t.Cleanup(func() { writers.Stop() })
	began := time.Now()
	log := filepath.Join(s.dir, "failpoints")
	for _, moment := range []string{"copy-before-commit@2", "apply-before-commit@2", "apply-after-commit@2"} {
		name, hit, _ := strings.Cut(moment, "@")
		s.killAt(log, name, hit)
	}
	p := s.start(nil, "run", "-f", s.file)
	require.Equal(t, 0, p.wait(timeLimit), p.err.String())
	elapsed := time.Since(began)
	outcome := writers.Stop()
	require.Empty(t, outcome.Errors)
	s.mustBeEqual(outcome)
	s.mustLeaveNothing()
	report := s.report()
	require.Equal(t, migration.PhaseFinished, report.State)
	require.Zero(t, report.Conflicts)
	return fmt.Sprintf("equal: %d rows copied, %d changes, %d commits, 3 kills, %s", report.Rows, report.Changes, outcome.Commits(),
		elapsed.Round(time.Second))
}

// heavy gives the copy something to be killed in.
const heavy = `
create schema heavy;
create table heavy.a (id int primary key, v text, w numeric, b bytea);
create table heavy.b (k text primary key, n int);
create index on heavy.a (v);
`

const heavyRows = `
insert into heavy.a select i, md5(i::text), i / 7.0, decode(md5(i::text), 'hex') from generate_series(1, 20000) i;
insert into heavy.b select md5(i::text), i from generate_series(1, 20000) i`
