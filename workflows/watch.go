package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// watchIfIdle looks after the slot in the background while nothing is read from it: retained WAL and the lease; without a
// slot the lease alone. In the other phases the stream does so itself.
func (m *run) watchIfIdle() {
	switch m.Phase {
	case migration.PhaseSchema, migration.PhaseCopy, migration.PhaseConstraints:
		m.startWatch()
	default:
		m.endWatch()
	}
}

func (m *run) startWatch() {
	if m.watch != nil {
		return
	}
	ctx, cancel := workflow.WithCancel(m.ctx)
	m.watch = cancel
	workflow.GoNamed(ctx, laneWatch, func(ctx workflow.Context) { m.lane(ctx, laneWatch).watching() })
}

// endWatch cancels and does not wait: the step learns of it with its next heartbeat, seconds later, and until then only
// looks. Nothing that follows has to stand still for that.
func (m *run) endWatch() {
	if m.watch != nil {
		m.watch()
		m.watch = nil
	}
}

// watching keeps the step running until its context ends. An unreachable server is waited for by a probe and fails
// nothing: the windows belong to the steps that need the server.
func (l *lane) watching() {
	for l.ctx.Err() == nil {
		err := step.Watch.Start(l.ctx, l.in, "").Get(l.ctx, nil)
		if l.ctx.Err() != nil || err == nil {
			continue
		}
		fault, _ := faultOf(err)
		switch migration.Policy[fault.Kind] {
		case migration.RetryConnection, migration.RetryOther:
			probe := step.Probe
			probe.Options.ScheduleToCloseTimeout = l.Windows.Connection.D()
			_ = probe.Start(l.ctx, step.ProbeIn{Spec: l.spec}, "").Get(l.ctx, nil)
			_ = workflow.Sleep(l.ctx, backoffMax)
		case migration.Ask:
			if l.ask(fault) != nil {
				return
			}
		default:
			return // fenced: the steps that write find out by themselves
		}
	}
}
