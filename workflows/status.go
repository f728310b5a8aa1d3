package workflows

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/workflows/migration"
)

// status is the workflow's part of what a user sees; the starter adds what running steps last reported.
func (m *run) status() migration.Status {
	status := migration.Status{
		ID: m.spec.ID, Name: m.spec.Name, Phase: m.Phase, Paused: m.Paused, Attention: m.Attention,
		State: m.stateName(), Phases: m.Phases, Actions: m.actions(), Precheck: m.Check, Cutover: m.Note,
		LastError: m.lastError(), Report: m.Report, Types: m.spec.Types, Objects: m.Objects,
		Throttle: m.spec.Throttle,
	}
	if status.Objects.Failures == nil {
		status.Objects.Failures = []migration.SchemaObject{}
	}
	status.Tables.Total = m.Plan.Tables
	if m.spec.Has(migration.TypeFull) {
		status.Rows.Total, status.Bytes.Total = m.Plan.Rows, m.Plan.Bytes
		if !m.Phase.Before(migration.PhaseCatchup) {
			status.Tables.Copied = m.Plan.Tables
			if m.Copied != (migration.Amounts{}) {
				status.Rows = migration.Amount{Copied: m.Copied.Rows, Total: m.Copied.Rows}
				status.Bytes = migration.Amount{Copied: m.Copied.Bytes, Total: m.Copied.Bytes}
			}
		}
	}
	if o := m.longest(); o != nil && !m.Phase.Ended() {
		since, _ := o.clock(o.Last.Kind, m.Windows)
		status.Outage = &migration.Outage{
			Kind: o.Last.Kind, Since: *since, Error: o.Last.Error(),
			WindowLeftSeconds: o.left(workflow.Now(m.ctx), m.Windows).Round(time.Second).Seconds(),
		}
	}
	return status
}

func (m *run) stateName() string {
	switch {
	case m.Phase.Ended():
		return string(m.Phase)
	case m.Attention != nil:
		return "attention"
	case m.Paused:
		return "paused"
	case m.longest() != nil:
		return "retrying"
	}
	return "running"
}

func (m *run) note(step, message string) {
	m.Note = &migration.CutoverNote{Step: step, Since: workflow.Now(m.ctx), Message: message}
	m.describe()
}

// lastError is why the migration ended, or what a step that still runs has met last.
func (m *run) lastError() *migration.Fault { return cmp.Or(m.Cause, m.Last) }

// describe writes the page that Temporal's UI shows for a workflow: what changes by events of the workflow alone. Percent, time to
// go and latency change with every heartbeat, which the workflow does not see: its history would grow with them.
func (m *run) describe() {
	var page strings.Builder
	page.WriteString("**" + m.spec.Name + "** — " + m.stateName() + ", phase **" + string(m.Phase) + "**\n\n")
	for _, phase := range m.Phases {
		page.WriteString("- " + phaseText(phase) + "\n")
	}
	if m.Plan.Tables > 0 {
		plan := fmt.Sprintf("\nTo copy: %d tables, about %d rows and %d MB\n", m.Plan.Tables, m.Plan.Rows, m.Plan.Bytes>>20)
		page.WriteString(plan)
	}
	if throttle := m.spec.Throttle.Text(m.Phase); throttle != "" {
		page.WriteString("\nThrottle: " + throttle + "\n")
	}
	if m.Attention != nil {
		page.WriteString("\nNeeds a person: " + m.Attention.Fault.Error() + "\n\n`" + m.Attention.Command + "`\n")
	}
	if m.Note != nil {
		page.WriteString("\nCutover: " + m.Note.Step + " " + m.Note.Message + "\n")
	}
	if last := m.lastError(); last != nil {
		page.WriteString("\nLast error: " + last.Error() + "\n")
	}
	if !m.Phase.Ended() {
		page.WriteString("\nPercent, time to go and latency: `pgdts watch " + m.spec.ID.Short() + "`, or the heartbeats of the pending activities\n")
	}
	page.WriteString("\nYou can: " + strings.Join(m.actions(), ", ") + "\n")
	workflow.SetCurrentDetails(m.ctx, page.String())
}

// phaseText is a phase with its times.
func phaseText(phase migration.PhaseStatus) string {
	text := string(phase.Name) + ": " + phase.State
	switch {
	case phase.Started != nil && phase.Finished != nil:
		text += " in " + phase.Finished.Sub(*phase.Started).Round(time.Second).String()
	case phase.State == "running" && phase.Started != nil:
		text += " since " + phase.Started.UTC().Format(time.RFC3339)
	}
	return text
}
