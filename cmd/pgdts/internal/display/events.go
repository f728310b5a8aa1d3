package display

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

// progressInterval is how often a line of figures is written while nothing else happens.
const progressInterval = 10 * time.Second

// Events writes one line per event: for logs and pipes.
type Events struct {
	out      io.Writer
	seen     bool
	away     bool
	last     migration.Status
	progress time.Time
}

// NewEvents writes to a pipe or a file.
func NewEvents(out io.Writer) *Events { return &Events{out: out} }

// See writes what is new against the status before.
func (e *Events) See(status migration.Status, now time.Time) {
	before := e.last
	if status.WorkerAway {
		// What Temporal knows alone is a part of what was seen, not news.
		if !e.away {
			e.say(now, fmt.Sprintf("migration %s: no worker answers", status.ID))
		}
		e.away = true
		if !status.Phase.Ended() {
			return
		}
	}
	e.away = false
	if !e.seen || status.Phase != before.Phase {
		e.say(now, e.phaseEvent(status, before))
		e.progress = now
	}
	e.troubleEvents(status, before, now)
	if status.CaughtUp && !before.CaughtUp {
		e.say(now, "not delayed: latency "+span(seconds(status.LatencySeconds)))
	}
	if now.Sub(e.progress) >= progressInterval {
		e.say(now, progressEvent(status))
		e.progress = now
	}
	e.seen, e.last = true, status
}

func (e *Events) say(now time.Time, text string) {
	fmt.Fprintf(e.out, "%s %s\n", now.UTC().Format(time.TimeOnly), text)
}

func (e *Events) phaseEvent(status, before migration.Status) string {
	text := "phase " + string(status.Phase)
	if !e.seen {
		return fmt.Sprintf("migration %s: %s", status.ID, text)
	}
	for _, phase := range status.Phases {
		if phase.Name == before.Phase && phase.Started != nil && phase.Finished != nil {
			text += fmt.Sprintf(" (%s took %s)", before.Phase, span(phase.Finished.Sub(*phase.Started)))
		}
	}
	return text
}

func (e *Events) troubleEvents(status, before migration.Status, now time.Time) {
	if a := status.Attention; a != nil && (before.Attention == nil || !before.Attention.Since.Equal(a.Since)) {
		text := "needs attention: " + oneLine(a.Fault.Error())
		if a.Command != "" {
			text += ": then " + a.Command
		}
		e.say(now, text)
	}
	if status.Attention == nil && before.Attention != nil {
		e.say(now, "attention no longer needed")
	}
	if o := status.Outage; o != nil && (before.Outage == nil || !before.Outage.Since.Equal(o.Since)) {
		e.say(now, strings.TrimPrefix(outageLine(*o, now), "! "))
	}
	if status.Outage == nil && before.Outage != nil && !status.Phase.Ended() {
		e.say(now, "outage over after "+span(now.Sub(before.Outage.Since)))
	}
	if status.WALAlertPercent > before.WALAlertPercent {
		e.say(now, status.WAL().Text(status.Paused))
	}
	if status.Paused != before.Paused {
		e.say(now, map[bool]string{true: "paused", false: "resumed"}[status.Paused])
	}
	if c := status.Cutover; c != nil && (before.Cutover == nil || *before.Cutover != *c) {
		e.say(now, labelled("cutover "+c.Step, c.Message))
	}
}

func progressEvent(status migration.Status) string {
	text := string(status.Phase)
	for _, phase := range status.Phases {
		if phase.Name == status.Phase && phase.Percent > 0 {
			text += fmt.Sprintf(" %.1f%%", phase.Percent)
		}
	}
	if status.State != "running" {
		text += " (" + status.State + ")"
	}
	return strings.Join(append([]string{text}, figures(status)...), ", ")
}
