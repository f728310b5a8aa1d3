// Package arena is where benchmarks let pgdts and others do the same work in turn: two servers with equal settings, and the
// times that come of it.
package arena

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pgdts/pgdts/tests/pgserver"
)

// Major is the servers' version: that of the peers' programs.
const Major = 15

// Ours is the contestant that the others are compared with.
const Ours = "pgdts"

// Arena is a source, a target, and a directory for what programs leave.
type Arena struct {
	Source, Target Server
	Dir            string
	settings       map[string]string
}

// Open starts both servers with the settings, for every contestant alike. What a contestant sets for its own sessions is its
// own merit. Nothing is left when it fails.
func Open(ctx context.Context, settings map[string]string) (*Arena, error) {
	a := &Arena{settings: settings}
	var err error
	if a.Dir, err = os.MkdirTemp("", "pgdts-bench-"); err != nil {
		return nil, err
	}
	for _, side := range []*Server{&a.Source, &a.Target} {
		if side.Server, err = pgserver.Start(ctx, pgserver.Config{Major: Major, Settings: settings}); err != nil {
			a.Close()
			return nil, err
		}
	}
	return a, nil
}

// Close ends the servers and removes their data.
func (a *Arena) Close() {
	for _, side := range []Server{a.Source, a.Target} {
		if side.Server != nil {
			_ = side.Close()
		}
	}
	_ = os.RemoveAll(a.Dir)
}

// Times are what one contestant took, round by round.
type Times struct {
	Contestant string    `json:"contestant"`
	Seconds    []float64 `json:"seconds,omitempty"`
	Median     float64   `json:"median,omitempty"`
	Skipped    string    `json:"skipped,omitempty"` // why it has no times
}

// Add takes the time of a round.
func (t *Times) Add(took time.Duration) {
	t.Seconds = append(t.Seconds, took.Seconds())
	sorted := slices.Sorted(slices.Values(t.Seconds))
	middle := len(sorted) / 2
	t.Median = sorted[middle]
	if len(sorted)%2 == 0 {
		t.Median = (sorted[middle-1] + sorted[middle]) / 2
	}
}

// Line is what a contestant did in one discipline, which the columns before its name describe.
type Line struct {
	Discipline []string
	Times
}

// Show prints medians, and our time as a share of each contestant's in the same discipline: below 1 we are faster.
func Show(out io.Writer, head []string, lines []Line) {
	ours := map[string]float64{}
	for _, line := range lines {
		if line.Contestant == Ours {
			ours[strings.Join(line.Discipline, "\t")] = line.Median
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s\tcontestant\tmedian\tpgdts / it\trounds\n", strings.Join(head, "\t"))
	for _, line := range lines {
		discipline := strings.Join(line.Discipline, "\t")
		if line.Median == 0 {
			fmt.Fprintf(table, "%s\t%s\t-\t-\t%s\n", discipline, line.Contestant, line.Skipped)
			continue
		}
		ratio := "-"
		if mine := ours[discipline]; mine > 0 {
			ratio = fmt.Sprintf("%.2f", mine/line.Median)
		}
		fmt.Fprintf(table, "%s\t%s\t%.2f s\t%s\t%s\n", discipline, line.Contestant, line.Median, ratio,
			strings.Trim(fmt.Sprintf("%.2f", line.Seconds), "[]"))
	}
	_ = table.Flush()
}

// Write leaves measurements in a file, beside what they were measured with.
func (a *Arena) Write(path string, measured map[string]any) error {
	measured["at"], measured["cores"] = time.Now().UTC().Format(time.RFC3339), runtime.NumCPU()
	measured["major"], measured["settings"] = Major, a.settings
	text, err := json.MarshalIndent(measured, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
