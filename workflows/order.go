package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/workflows/migration"
)

// register answers queries and updates. Validators refuse what makes no sense now, with a sentence that says when.
func (m *run) register(ctx workflow.Context) error {
	err := workflow.SetQueryHandlerWithOptions(ctx, QueryStatus,
		func() (migration.Status, error) { return m.status(), nil },
		workflow.QueryHandlerOptions{Description: "Phase, outage, attention and what may be done now."})
	if err != nil {
		return err
	}
	err = workflow.SetUpdateHandlerWithOptions(ctx, UpdateCutover,
		func(workflow.Context) (migration.CutoverNote, error) {
			m.CutoverAsked = true
			m.note("asked", "")
			return *m.Note, nil
		},
		workflow.UpdateHandlerOptions{
			Description: "Move writes to the target: gates, fence, drain, compare, sequences, open. Any error before the opening lifts the fence.",
			Validator:   func(workflow.Context) error { return m.cutoverAllowed() },
		})
	if err != nil {
		return err
	}
	err = workflow.SetUpdateHandlerWithOptions(ctx, UpdateResume,
		func(_ workflow.Context, order Resume) (migration.Status, error) {
			m.resume(order)
			return m.status(), nil
		},
		workflow.UpdateHandlerOptions{Description: resumeDescription})
	if err != nil {
		return err
	}
	err = workflow.SetUpdateHandlerWithOptions(ctx, UpdateThrottle,
		func(_ workflow.Context, change migration.ThrottleChange) (migration.Throttle, error) {
			m.changeThrottle(change)
			return m.spec.Throttle, nil
		},
		workflow.UpdateHandlerOptions{
			Description: throttleDescription,
			Validator:   func(_ workflow.Context, change migration.ThrottleChange) error { return m.throttleAllowed(change) },
		})
	if err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, UpdateRetry,
		func(_ workflow.Context, change Retry) (migration.RetryWindows, error) {
			m.changeWindows(change)
			return m.Windows, nil
		},
		workflow.UpdateHandlerOptions{
			Description: `Change the retry windows: {"connection": "720m", "other": "10m"}. Running outages keep their start.`,
			Validator:   func(_ workflow.Context, change Retry) error { return m.windowsWith(change).Validate() },
		})
}

const resumeDescription = `Go on after a pause, or try again what needed a person; schema objects may be left out: {"ignore": ["VIEW public.v"]}.`

// listen receives signals until the workflow ends. A signal cannot be refused: one that makes no sense now is noted.
func (m *run) listen(ctx workflow.Context) {
	m.onSignal(ctx, SignalStop, "End the migration: in incremental drained to now; before, abandoned.", func(read func(any)) {
		var order Stop
		read(&order)
		m.StopAsked, m.ReleaseAsked = true, m.ReleaseAsked || order.Release
	})
	m.onSignal(ctx, SignalCutover, "Move writes to the target (only in incremental).", func(func(any)) {
		if err := m.cutoverAllowed(); err != nil {
			m.note("refused", err.Error())
			return
		}
		m.CutoverAsked = true
		m.note("asked", "")
	})
	m.onSignal(ctx, SignalPause, "Stop working; the slot is kept and holds WAL on the source (only with incremental).", func(func(any)) {
		if err := PauseAllowed(m.spec); err != nil {
			m.note("refused", err.Error())
			return
		}
		m.Paused = true
	})
	m.onSignal(ctx, SignalResume, resumeDescription, func(read func(any)) {
		var order Resume
		read(&order)
		m.resume(order)
	})
	m.onSignal(ctx, SignalRecheck, `Run the precheck again: {"ignore": ["CODE"]}.`, func(read func(any)) {
		var order Recheck
		read(&order)
		m.Ignore = append(m.Ignore, order.Ignore...)
		m.RecheckAsked = true
	})
	m.onSignal(ctx, SignalRetry, `Change the retry windows: {"connection": "720m", "other": "10m"}.`, func(read func(any)) {
		var order Retry
		read(&order)
		if m.windowsWith(order).Validate() == nil {
			m.changeWindows(order)
		}
	})
	m.onSignal(ctx, SignalThrottle, throttleDescription, func(read func(any)) {
		var order migration.ThrottleChange
		read(&order)
		if m.throttleAllowed(order) == nil {
			m.changeThrottle(order)
		}
	})
	workflow.GoNamed(m.ctx, "cancellation", func(detached workflow.Context) {
		// A cancelled workflow means the same as stop; the detached context goes on and cleans up.
		ctx.Done().Receive(detached, nil)
		m.StopAsked = true
	})
}

// onSignal creates the channel at once, so that clients list it with its description, and handles each signal.
func (m *run) onSignal(ctx workflow.Context, name, description string, handle func(read func(any))) {
	channel := workflow.GetSignalChannelWithOptions(ctx, name, workflow.SignalChannelOptions{Description: description})
	workflow.GoNamed(m.ctx, "signal "+name, func(ctx workflow.Context) {
		for {
			var raw rawPayload
			if !channel.Receive(ctx, &raw) {
				return
			}
			handle(raw.into)
			m.describe()
		}
	})
}

func (m *run) resume(order Resume) {
	m.Paused, m.ResumeAsked = false, true
	for _, object := range order.Ignore {
		if !slices.Contains(m.Skip, object) {
			m.Skip = append(m.Skip, object)
		}
	}
	m.describe()
}

// PauseAllowed refuses to pause a migration that has no slot to come back to: the snapshot that it copies would have to be
// held all the while, and hold back the source's vacuum.
func PauseAllowed(spec migration.Spec) error {
	if spec.Has(migration.TypeIncremental) {
		return nil
	}
	return fmt.Errorf("a migration without type incremental cannot pause: all of it is from one moment of the source; it ends by itself, or by `pgdts stop`")
}

func (m *run) cutoverAllowed() error {
	switch {
	case m.Phase.Ended():
		return fmt.Errorf("the migration is %s", m.Phase)
	case !m.spec.Has(migration.TypeIncremental):
		return fmt.Errorf("a migration without type incremental is not cut over: it ends by itself when everything is there")
	case m.Phase == migration.PhaseIncremental && !m.Paused:
		return nil
	case m.Phase == migration.PhaseIncremental:
		return fmt.Errorf("the migration is paused: resume it first")
	case m.Phase == migration.PhaseCutover:
		return fmt.Errorf("a cutover is under way")
	}
	return fmt.Errorf("cutover is possible in phase incremental; the migration is in phase %s", m.Phase)
}

func (m *run) windowsWith(change Retry) migration.RetryWindows {
	windows := m.Windows
	if change.Connection != 0 {
		windows.Connection = change.Connection
	}
	if change.Other != 0 {
		windows.Other = change.Other
	}
	return windows
}

func (m *run) changeWindows(change Retry) {
	m.Windows = m.windowsWith(change)
	m.WindowChanges++
}

// actions lists the commands that make sense now.
func (m *run) actions() []string {
	var actions []string
	if m.Phase.Ended() {
		return []string{"report", "release"}
	}
	if m.Paused || m.Attention != nil {
		actions = append(actions, "resume")
	}
	if !m.Paused && PauseAllowed(m.spec) == nil {
		actions = append(actions, "pause")
	}
	if m.cutoverAllowed() == nil {
		actions = append(actions, "cutover")
	}
	if m.Attention != nil && m.Phase == migration.PhasePrecheck {
		actions = append(actions, "recheck")
	}
	if m.spec.Throttleable(m.Phase) {
		actions = append(actions, "throttle")
	}
	return slices.Concat(actions, []string{"retry", "stop", "release"})
}
