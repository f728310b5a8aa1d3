package migration

// Phase is what a migration is doing. `paused`, `retrying` and `attention` stand beside the phase (Status), so that
// going on needs no memory of where.
type Phase string

// The working phases in order; then stopping, which every one of them can enter; then the three ends.
const (
	PhasePrecheck    Phase = "precheck"
	PhasePrepare     Phase = "prepare"
	PhaseSchema      Phase = "schema"
	PhaseCopy        Phase = "copy"
	PhaseCatchup     Phase = "catchup"
	PhaseConstraints Phase = "constraints"
	PhaseIncremental Phase = "incremental"
	PhaseCutover     Phase = "cutover"
	PhaseStopping    Phase = "stopping" // drains and cleans up after `stop`
	PhaseFinished    Phase = "finished"
	PhaseStopped     Phase = "stopped"
	PhaseFailed      Phase = "failed"
)

// Phases lists the working phases in order, for displays.
var Phases = []Phase{
	PhasePrecheck, PhasePrepare, PhaseSchema, PhaseCopy, PhaseCatchup, PhaseConstraints, PhaseIncremental, PhaseCutover,
}

// Phases lists the phases that a migration of these types goes through, in order; the others are skipped. Without
// incremental it finishes after the last of them.
func (s Spec) Phases() []Phase {
	phases := []Phase{PhasePrecheck, PhasePrepare}
	for _, part := range []struct {
		phase  Phase
		wanted bool
	}{
		{PhaseSchema, s.Has(TypeSchema)},
		{PhaseCopy, s.Has(TypeFull)},
		{PhaseCatchup, s.Has(TypeIncremental)},
		// Without incremental it is also where sequences are set.
		{PhaseConstraints, s.Has(TypeSchema) || !s.Has(TypeIncremental)},
		{PhaseIncremental, s.Has(TypeIncremental)},
		{PhaseCutover, s.Has(TypeIncremental)},
	} {
		if part.wanted {
			phases = append(phases, part.phase)
		}
	}
	return phases
}

// PhaseAfter is what follows when the work of a phase is done.
func (s Spec) PhaseAfter(p Phase) Phase {
	for _, phase := range s.Phases() {
		if p.Before(phase) {
			return phase
		}
	}
	return PhaseFinished
}

// edges are those of every set of types: each skips the phases that it does not have.
var edges = map[Phase][]Phase{
	"":               {PhasePrecheck},
	PhasePrecheck:    {PhasePrepare, PhaseStopping, PhaseFailed},
	PhasePrepare:     {PhaseSchema, PhaseCopy, PhaseCatchup, PhaseStopping, PhaseFailed},
	PhaseSchema:      {PhaseCopy, PhaseCatchup, PhaseConstraints, PhaseStopping, PhaseFailed},
	PhaseCopy:        {PhaseCatchup, PhaseConstraints, PhaseStopping, PhaseFailed},
	PhaseCatchup:     {PhaseConstraints, PhaseIncremental, PhaseStopping, PhaseFailed},
	PhaseConstraints: {PhaseIncremental, PhaseFinished, PhaseStopping, PhaseFailed},
	PhaseIncremental: {PhaseCutover, PhaseStopping, PhaseFailed},
	PhaseCutover:     {PhaseFinished, PhaseIncremental, PhaseStopping, PhaseFailed},
	PhaseStopping:    {PhaseStopped, PhaseFailed},
}

// CanEnter reports whether next may follow p.
func (p Phase) CanEnter(next Phase) bool {
	for _, to := range edges[p] {
		if to == next {
			return true
		}
	}
	return false
}

// Ended reports whether nothing follows.
func (p Phase) Ended() bool { return p == PhaseFinished || p == PhaseStopped || p == PhaseFailed }

// Before reports whether p comes before other in the order of work. Phases outside that order come last.
func (p Phase) Before(other Phase) bool { return p.order() < other.order() }

// After reports whether p comes after other in the order of work.
func (p Phase) After(other Phase) bool { return other.Before(p) }

func (p Phase) order() int {
	for i, phase := range Phases {
		if phase == p {
			return i
		}
	}
	return len(Phases)
}
