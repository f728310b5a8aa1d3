package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

const throttleDescription = `Change rates: {"full": {"queriesPerSecond": 50, "rowsPerSecond": 10000, "megabytesPerSecond": 20}, ` +
	`"incremental": {"rowsPerSecond": 2000, "megabytesPerSecond": 5}}. What is not named stays, 0 takes a cap away.`

func (m *run) throttleAllowed(change migration.ThrottleChange) error {
	return m.spec.ThrottleAllowed(change, m.Phase)
}

// changeThrottle holds for steps that begin from now on, and tells the ledger, where those that run look. Prepare makes it,
// and records what holds when it begins.
func (m *run) changeThrottle(change migration.ThrottleChange) {
	rates := change.Of(m.spec.Throttle)
	m.Throttle = &rates
	m.setThrottle(rates)
	m.describe()
	if m.Phase != migration.PhasePrecheck && m.Phase != migration.PhasePrepare {
		m.tellRates()
	}
}

func (m *run) setThrottle(rates migration.Throttle) {
	m.spec.Throttle, m.in.Spec.Throttle = rates, rates
}

// tellRates begins the step that writes the rates, in place of one that is still at an earlier change. It takes as long as
// the target needs to answer, and nothing else waits for it.
func (m *run) tellRates() {
	m.endTelling()
	m.Unwritten = true
	ctx, cancel := workflow.WithCancel(m.ctx)
	m.telling = cancel
	told := step.Throttle.Start(ctx, step.ThrottleIn{In: m.in, Throttle: m.spec.Throttle}, "")
	workflow.GoNamed(ctx, "throttle", func(ctx workflow.Context) {
		err := told.Get(ctx, nil)
		if ctx.Err() != nil {
			return // a later change has taken over, or the migration ends
		}
		m.Unwritten = false
		if err != nil {
			m.Last, _ = faultOf(err)
			m.describe()
		}
	})
}

func (m *run) endTelling() {
	if m.telling != nil {
		m.telling()
		m.telling = nil
	}
}
