package migration_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/workflows/migration"
)

var everyPhase = append(slices.Clone(migration.Phases),
	migration.PhaseStopping, migration.PhaseFinished, migration.PhaseStopped, migration.PhaseFailed)

// subsets are all sets of types.
var subsets = [][]migration.Type{
	{migration.TypeSchema},
	{migration.TypeFull},
	{migration.TypeIncremental},
	{migration.TypeSchema, migration.TypeFull},
	{migration.TypeSchema, migration.TypeIncremental},
	{migration.TypeFull, migration.TypeIncremental},
	{migration.TypeSchema, migration.TypeFull, migration.TypeIncremental},
}

// Every pair of phases has one answer: the work goes forward over phases that some set of types leaves out, back only from
// a cutover given up, and out by stopping or failing.
func TestPhaseEdges(t *testing.T) {
	t.Parallel()
	forward := map[[2]migration.Phase]bool{}
	for _, types := range subsets {
		spec := migration.Spec{Types: types}
		for _, phase := range spec.Phases() {
			forward[[2]migration.Phase{phase, spec.PhaseAfter(phase)}] = true
		}
	}
	for _, from := range everyPhase {
		for _, to := range everyPhase {
			working := slices.Contains(migration.Phases, from)
			want := forward[[2]migration.Phase{from, to}] ||
				working && (to == migration.PhaseStopping || to == migration.PhaseFailed) ||
				from == migration.PhaseCutover && to == migration.PhaseIncremental ||
				from == migration.PhaseStopping && (to == migration.PhaseStopped || to == migration.PhaseFailed)
			if from.CanEnter(to) != want {
				t.Errorf("%s to %s: %t", from, to, !want)
			}
		}
		if migration.Phase("").CanEnter(from) != (from == migration.PhasePrecheck) {
			t.Errorf("a migration begins with %s", from)
		}
	}
}

func TestPhasesOfEverySubsetOfTypes(t *testing.T) {
	t.Parallel()
	for i, want := range []string{
		"precheck prepare schema constraints",
		"precheck prepare copy constraints",
		"precheck prepare catchup incremental cutover",
		"precheck prepare schema copy constraints",
		"precheck prepare schema catchup constraints incremental cutover",
		"precheck prepare copy catchup incremental cutover",
		"precheck prepare schema copy catchup constraints incremental cutover",
	} {
		var got []string
		for _, phase := range (migration.Spec{Types: subsets[i]}).Phases() {
			got = append(got, string(phase))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v: %v", subsets[i], got)
		}
	}
}

func TestEndedPhasesHaveNoWayOut(t *testing.T) {
	t.Parallel()
	for _, from := range everyPhase {
		out := slices.ContainsFunc(everyPhase, from.CanEnter)
		if from.Ended() == out {
			t.Errorf("%s: ended is %t, and it has a way out: %t", from, from.Ended(), out)
		}
	}
}

func TestPhaseOrder(t *testing.T) {
	t.Parallel()
	for i, a := range migration.Phases {
		for j, b := range migration.Phases {
			if a.Before(b) != (i < j) || a.After(b) != (i > j) {
				t.Errorf("%s before %s: %t", a, b, a.Before(b))
			}
		}
		if !a.Before(migration.PhaseFinished) || migration.PhaseFinished.Before(a) {
			t.Errorf("%s and the end", a)
		}
	}
}
