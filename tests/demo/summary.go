package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

// ending is everything that is known when the migration is over.
type ending struct {
	report migration.Report
	known  testimony
	comparison
	opened time.Time
	after  aftermath
}

// summarise tells what was moved, what it cost, and whether both sides are the same.
func (d *demo) summarise(e ending) {
	report, known := e.report, e.known
	d.page.fact("compared", "every table by hash, every sequence, pg_dump's view of every object: %s", span(e.took))
	acknowledged, rolledBack := known.totals()
	d.page.fact("writers", "%s commits that the source acknowledged, looked up on the target; %s rolled back", count(acknowledged), count(rolledBack))
	d.page.fact("afterwards", "the shop went on at the target: %s transactions, %s", count(e.after.commits), failures(e.after))

	d.page.heading("Summary", d.endpoints())
	d.page.fact("moved", "%s tables, %s rows, %s in %s chunks, then %s changes; %s sequences, %s objects",
		count(report.Tables), count(report.Rows), size(report.Bytes), count(report.Chunks), count(report.Changes),
		count(report.Sequences), count(report.Objects.Done))
	d.page.fact("phases", "%s", d.phases(report.Finished))
	d.pause(report, known, e.opened)
	d.tellKills(report)
	median, most := d.pgdts.seen.latency()
	d.page.fact("latency", "%s in the middle, %s at most: age of the newest write on the target, looked up %s times", span(median), span(most), count(len(d.pgdts.seen.ages)))
	d.page.fact("memory", "pgdts %s, its Temporal server %s (peaks)", size(d.pgdts.seen.memory), size(d.pgdts.seen.serverMemory))
	d.page.fact("Temporal UI", "%s", d.ui())
	for i, note := range report.Notes {
		d.page.fact(map[bool]string{true: "notes"}[i == 0], "%s", note)
	}
	d.page.fact("all in all", "%s", span(time.Since(d.began)))
	d.verdict(e.comparison, acknowledged)
}

func failures(a aftermath) string {
	if a.err == nil {
		return "none failed"
	}
	return a.err.Error()
}

func (d *demo) endpoints() string {
	return fmt.Sprintf("127.0.0.1:%d to 127.0.0.1:%d", d.stage.source.Port(), d.stage.target.Port())
}

// phases lists how long each took, as the migration itself recorded it. The last one may have ended after the last look.
func (d *demo) phases(ended time.Time) string {
	var parts []string
	for _, name := range migration.Phases {
		phase := d.pgdts.phases[name]
		if phase.Started == nil {
			continue
		}
		finished := ended
		if phase.Finished != nil {
			finished = *phase.Finished
		}
		parts = append(parts, fmt.Sprintf("%s %s", name, span(finished.Sub(*phase.Started))))
	}
	return strings.Join(parts, ", ")
}

// pause tells how long writes were blocked, twice: as pgdts reports it, and as the writers met it.
func (d *demo) pause(report migration.Report, known testimony, opened time.Time) {
	d.page.fact("writes blocked", "%s from fence to opening, says the report", span(report.WriteBlocked.D()))
	d.page.fact("", "%s for the writers: last commit on the source at %s, target open at %s", span(opened.Sub(known.lastCommit)),
		clock(known.lastCommit), clock(opened.Local()))
	d.page.fact("", "first refused at %s, %s after that commit; the longest transaction took %s", clock(known.FirstRefused),
		span(known.FirstRefused.Sub(known.lastCommit)), span(known.LongestWait))
}

func (d *demo) tellKills(report migration.Report) {
	for i, k := range d.kills {
		d.page.fact(map[bool]string{true: "killed"}[i == 0], "%s: worked again %s after the same command", k.where, span(k.back))
	}
	if len(d.kills) > 0 {
		d.page.fact("", "chunks copied again: %s of %s; none that was finished", count(report.Recopied), count(report.Chunks))
	}
}

func (d *demo) ui() string {
	if d.keep {
		return d.pgdts.ui
	}
	return d.pgdts.ui + " while it ran (KEEP=1 keeps it)"
}

// differencesShown keeps a verdict on one screen.
const differencesShown = 20

func (d *demo) verdict(c comparison, acknowledged int) {
	d.page.text("")
	if len(c.differences) == 0 {
		d.page.text(d.page.paint(green, "  EQUAL") + fmt.Sprintf("  %s tables with %s rows, %s sequences, %s definitions, %s commits",
			count(c.tables), count(c.rows), count(c.sequences), count(c.objects), count(acknowledged)))
		return
	}
	d.page.text(d.page.paint(red, fmt.Sprintf("  DIFFERENT  in %s places", count(len(c.differences)))))
	for _, difference := range some(c.differences, differencesShown) {
		d.page.text("    " + difference)
	}
}
