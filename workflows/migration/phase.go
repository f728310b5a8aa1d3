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

var edges = map[Phase][]Phase{
	"":               {PhasePrecheck},
	PhasePrecheck:    {PhasePrepare, PhaseStopping, PhaseFailed},
	PhasePrepare:     {PhaseSchema, PhaseStopping, PhaseFailed},
	PhaseSchema:      {PhaseCopy, PhaseStopping, PhaseFailed},
	PhaseCopy:        {PhaseCatchup, PhaseStopping, PhaseFailed},
	PhaseCatchup:     {PhaseConstraints, PhaseStopping, PhaseFailed},
	PhaseConstraints: {PhaseIncremental, PhaseStopping, PhaseFailed},
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
