package display

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Picture is the state of a migration on a screen, one string per line, none longer than width (0 = no limit).
func Picture(status migration.Status, now time.Time, width int) []string {
	lines := []string{head(status, now)}
	for _, phase := range status.Phases {
		lines = append(lines, phaseLine(status, phase, now))
	}
	for i := range lines {
		lines[i] = cut(lines[i], width)
	}
	for _, line := range figures(status) {
		lines = append(lines, fold(line, width)...)
	}
	for _, line := range troubles(status, now) {
		lines = append(lines, fold(line, width)...)
	}
	if len(status.Actions) > 0 {
		lines = append(lines, fold("you can: "+strings.Join(status.Actions, ", "), width)...)
	}
	return lines
}

func head(status migration.Status, now time.Time) string {
	line := fmt.Sprintf("%s (%s): %s", status.Name, status.ID.Short(), status.State)
	if status.Phase != "" && string(status.Phase) != status.State {
		line += ", " + string(status.Phase)
	}
	if len(status.Phases) > 0 && status.Phases[0].Started != nil && !status.Phase.Ended() {
		line += ", " + span(now.Sub(*status.Phases[0].Started))
	}
	if status.WorkerAway {
		line += " (no worker answers)"
	}
	return line
}

const barWidth = 24

func phaseLine(status migration.Status, phase migration.PhaseStatus, now time.Time) string {
	switch phase.State {
	case "done":
		line := fmt.Sprintf("  ✔ %-12s", phase.Name)
		if phase.Started != nil && phase.Finished != nil {
			line += span(phase.Finished.Sub(*phase.Started))
		}
		return strings.TrimRight(line, " ")
	case "running":
		line := fmt.Sprintf("  ▶ %-12s", phase.Name)
		if phase.Percent > 0 {
			line += fmt.Sprintf("%s %5.1f%%", bar(phase.Percent), phase.Percent)
		} else if phase.Started != nil {
			line += span(now.Sub(*phase.Started))
		}
		if status.Doing != "" {
			line += "  " + oneLine(status.Doing)
		}
		return strings.TrimRight(line, " ")
	case "skipped":
		return fmt.Sprintf("  - %-12s%s", phase.Name, phase.State)
	}
	return "  · " + string(phase.Name)
}

func bar(percent float64) string {
	full := int(percent / 100 * barWidth)
	return "[" + strings.Repeat("█", full) + strings.Repeat("░", barWidth-full) + "]"
}

// figures are the lines of numbers that are known.
func figures(status migration.Status) []string {
	var lines []string
	if line := copyFigures(status); line != "" {
		lines = append(lines, line)
	}
	if line := objectFigures(status.Objects); line != "" {
		lines = append(lines, line)
	}
	if line := streamFigures(status); line != "" {
		lines = append(lines, line)
	}
	if throttle := status.Throttle.Text(status.Phase); throttle != "" {
		lines = append(lines, "throttle: "+throttle)
	}
	return lines
}

func copyFigures(status migration.Status) string {
	var parts []string
	if t := status.Tables; t.Total > 0 {
		part := fmt.Sprintf("tables %s/%s", count(t.Copied), count(t.Total))
		if !copies(status.Types) {
			part = "tables " + count(t.Total)
		}
		if t.Exact > 0 {
			part += fmt.Sprintf(" (%s exact)", count(t.Exact))
		}
		parts = append(parts, part)
	}
	if r := status.Rows; r.Total > 0 || r.Copied > 0 {
		parts = append(parts, "rows "+amount(r, count[int64]))
	}
	if b := status.Bytes; b.Total > 0 || b.Copied > 0 {
		parts = append(parts, amount(b, size[int64]))
	}
	if status.Phase == migration.PhaseCopy {
		if status.Rates.RowsPerSecond > 0 {
			parts = append(parts, "rows "+rate(status.Rates.RowsPerSecond))
		}
		if status.Rates.BytesPerSecond > 0 {
			parts = append(parts, size(status.Rates.BytesPerSecond)+"/s")
		}
		if status.ETASeconds > 0 {
			part := "ready in about " + span(seconds(status.ETASeconds))
			if indexed(status.Types) {
				part = "rows " + part + ", then indexes"
			}
			parts = append(parts, part)
		}
		if b := status.Bytes; b.Total > 0 && b.Copied >= b.Total && indexed(status.Types) {
			parts = append(parts, "all rows copied, indexes are being built")
		}
	}
	return strings.Join(parts, ", ")
}

// indexed reports whether tables get keys and indexes once their rows are there, which nobody knows the time of.
func indexed(types []migration.Type) bool {
	return len(types) == 0 || slices.Contains(types, migration.TypeSchema)
}

// copies reports whether rows are copied. A status of Temporal alone does not know the types.
func copies(types []migration.Type) bool {
	return len(types) == 0 || slices.Contains(types, migration.TypeFull)
}

func amount(a migration.Amount, render func(int64) string) string {
	if a.Total <= a.Copied {
		return render(a.Copied)
	}
	return render(a.Copied) + " of " + render(a.Total)
}

// objectFigures are of interest only where something is not as it should be.
func objectFigures(o migration.ObjectStatus) string {
	if o.Failed == 0 && o.Skipped == 0 {
		return ""
	}
	line := fmt.Sprintf("objects %s done, %s failed, %s skipped", count(o.Done), count(o.Failed), count(o.Skipped))
	if o.Pending > 0 {
		line += ", " + count(o.Pending) + " to do"
	}
	return line + ": see `pgdts objects`"
}

func streamFigures(status migration.Status) string {
	var parts []string
	if status.LSN.Applied != 0 && streams(status.Phase) {
		parts = append(parts, "latency "+span(seconds(status.LatencySeconds)))
	}
	if status.CaughtUp {
		parts = append(parts, "not delayed")
	}
	switch {
	case !catchesUp(status.Phase):
	case status.NotCatchingUp:
		parts = append(parts, "not catching up at this rate")
	case status.ETASeconds > 0:
		parts = append(parts, "caught up in about "+span(seconds(status.ETASeconds)))
	}
	if status.Changes > 0 {
		part := "changes " + count(status.Changes)
		if status.Rates.ChangesPerSecond > 0 {
			part += " (" + rate(status.Rates.ChangesPerSecond) + ")"
		}
		parts = append(parts, part)
	}
	if status.WALRetainedBytes > 0 {
		parts = append(parts, walFigure(status))
	}
	if l := status.LSN; l.Applied != 0 && streams(status.Phase) {
		part := "applied " + l.Applied.String()
		if l.Source != 0 {
			part += " of " + l.Source.String()
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// growthShown is what is worth a word: a slot that keeps pace moves by less.
const growthShown = 64 << 10

// walFigure is what the slot keeps of the log, of how much, and for how long that goes well.
func walFigure(status migration.Status) string {
	text := "WAL kept by the slot " + size(status.WALRetainedBytes)
	if status.WALLimitBytes > 0 {
		text += " of " + size(status.WALLimitBytes)
	}
	if status.WALGrowthBytesPerSecond < growthShown {
		return text
	}
	text += " (+" + size(status.WALGrowthBytesPerSecond) + "/s"
	if status.WALSecondsToLimit > 0 {
		text += "; full in about " + span(seconds(status.WALSecondsToLimit))
	}
	return text + ")"
}

// catchesUp reports whether there is a backlog to work off in a phase, and nothing else that takes time.
func catchesUp(phase migration.Phase) bool {
	return phase == migration.PhaseCatchup || phase == migration.PhaseIncremental
}

// streams reports whether changes are applied in a phase. In the others nobody knows the latency.
func streams(phase migration.Phase) bool {
	return phase == migration.PhaseCatchup || phase == migration.PhaseIncremental || phase == migration.PhaseCutover
}

// troubles are what needs attention, most urgent first.
func troubles(status migration.Status, now time.Time) []string {
	var lines []string
	if a := status.Attention; a != nil {
		lines = append(lines, "! needs you since "+span(now.Sub(a.Since))+": "+oneLine(a.Fault.Error()))
		if a.Command != "" {
			lines = append(lines, "  then: "+a.Command)
		}
	}
	if o := status.Outage; o != nil {
		lines = append(lines, outageLine(*o, now))
	}
	if status.Paused {
		lines = append(lines, "! paused: the slot keeps WAL on the source until `pgdts resume "+status.ID.Short()+"`")
	}
	if n := status.SnapshotsLost; n > 0 && status.Phase == migration.PhaseCopy {
		lines = append(lines, "! begun anew: "+several(n, "snapshot")+" lost, what was copied under a lost one is copied again")
	}
	full := status.WAL().Text(status.Paused)
	for _, note := range status.Notes {
		if note == full {
			lines = append(lines, "! "+note)
			continue
		}
		lines = append(lines, labelled("source", oneLine(note)))
	}
	if c := status.Cutover; c != nil && c.Step != "done" {
		lines = append(lines, labelled("cutover "+c.Step, c.Message))
	}
	if f := status.LastError; f != nil && status.Phase == migration.PhaseFailed {
		lines = append(lines, "! failed: "+oneLine(f.Error()))
	}
	return lines
}

func outageLine(o migration.Outage, now time.Time) string {
	return fmt.Sprintf("! %s outage for %s, gives up in %s: %s",
		o.Kind, span(now.Sub(o.Since)), span(seconds(o.WindowLeftSeconds)), oneLine(o.Error))
}
