package migration_test

import (
	"slices"
	"testing"

	"github.com/pgdts/pgdts/workflows/migration"
)

var everyPhase = append(slices.Clone(migration.Phases),
	migration.PhaseStopping, migration.PhaseFinished, migration.PhaseStopped, migration.PhaseFailed)

// Every pair of phases has one answer: the work goes forward one step at a time, back only from a cutover given up, and
// out by stopping or failing.
func TestPhaseEdges(t *testing.T) {
	t.Parallel()
	for _, from := range everyPhase {
		for _, to := range everyPhase {
			at, then := slices.Index(migration.Phases, from), slices.Index(migration.Phases, to)
			want := at >= 0 && then == at+1 ||
				at >= 0 && (to == migration.PhaseStopping || to == migration.PhaseFailed) ||
				from == migration.PhaseCutover && (to == migration.PhaseFinished || to == migration.PhaseIncremental) ||
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
