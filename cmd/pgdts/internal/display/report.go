package display

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Report writes the evidence that a migration left.
func Report(out io.Writer, r migration.Report) {
	fmt.Fprintf(out, "Migration %s %s\n", r.Name, r.State)
	line := func(label, format string, args ...any) {
		fmt.Fprintf(out, "  %-15s %s\n", label, fmt.Sprintf(format, args...))
	}
	line("id", "%s", r.ID)
	line("source", "%s", r.Source)
	line("target", "%s", r.Target)
	if len(r.Types) > 0 && len(r.Types) < 3 {
		line("types", "%s", typesText(r.Types))
	}
	if !r.Started.IsZero() && !r.Finished.IsZero() {
		line("time", "%s to %s (%s)", r.Started.UTC().Format(time.RFC3339), r.Finished.UTC().Format(time.RFC3339),
			span(r.Finished.Sub(r.Started)))
	}
	for _, figure := range moved(r) {
		line(figure[0], "%s", figure[1])
	}
	if o := r.Objects; o != (migration.ObjectCounts{}) {
		line("objects", "%s created, %s failed, %s skipped", count(o.Done), count(o.Failed), count(o.Skipped))
	}
	if r.WriteBlocked > 0 {
		line("writes blocked", "%s", span(r.WriteBlocked.D()))
	}
	if r.Verified != "" {
		line("verified", "%s", verified(r))
	}
	for _, verdict := range r.Verdicts {
		line("", "%s", verdictText(verdict))
	}
	for i, note := range r.Notes {
		label := ""
		if i == 0 {
			label = "notes"
		}
		line(label, "%s", oneLine(note))
	}
	if r.Failure != nil && r.State != migration.PhaseFinished {
		line("reason", "%s", oneLine(r.Failure.Error()))
	}
}

func typesText(types []migration.Type) string {
	words := make([]string, len(types))
	for i, t := range types {
		words[i] = string(t)
	}
	return strings.Join(words, ", ")
}

// moved are the lines about rows and changes, as far as they are of this migration's types.
func moved(r migration.Report) [][2]string {
	if r.Tables == 0 {
		return nil
	}
	copied := fmt.Sprintf("%s, %s, %s in %s", several(r.Tables, "table"), several(r.Rows, "row"), size(r.Bytes), several(r.Chunks, "chunk"))
	if r.Recopied > 0 {
		copied += fmt.Sprintf(" (%s more)", several(r.Recopied, "attempt"))
	}
	if r.Kept > 0 {
		copied += fmt.Sprintf("; %s of the target kept", several(r.Kept, "row"))
	}
	lines := [][2]string{{"copied", copied}}
	if !copies(r.Types) {
		lines = [][2]string{{"tables", count(r.Tables)}}
	}
	if len(r.Types) == 0 || slices.Contains(r.Types, migration.TypeIncremental) {
		lines = append(lines, [2]string{"changes", fmt.Sprintf("%s applied, %s", count(r.Changes), several(r.Conflicts, "conflict"))})
	}
	return append(lines, [2]string{"sequences", count(r.Sequences) + " set"})
}

func verified(r migration.Report) string {
	differ := Differences(r)
	if r.Verified == "none" && differ == 0 {
		return "nothing was compared"
	}
	if differ == 0 {
		return r.Verified + ": no differences"
	}
	if differ == 1 {
		return r.Verified + ": 1 table differs"
	}
	return fmt.Sprintf("%s: %s tables differ", r.Verified, count(differ))
}

// Differences counts the tables that were found different and stayed so.
func Differences(r migration.Report) int {
	differ := 0
	for _, verdict := range r.Verdicts {
		if !verdict.Equal && verdict.Method != "recopied" {
			differ++
		}
	}
	return differ
}

func verdictText(v migration.Verdict) string {
	word := "equal"
	if !v.Equal {
		word = "DIFFERENT"
	}
	switch v.Method {
	case "recopied":
		word = "copied again under the fence"
	case "none":
		return fmt.Sprintf("%s: not compared: %s", v.Table, v.Reason)
	case "subset":
		text := fmt.Sprintf("%s: %s, %s of %s of the source are on the target", v.Table, word, count(v.TargetRows), several(v.SourceRows, "row"))
		for _, part := range []struct {
			n    int64
			what string
		}{{v.Missing, "missing"}, {v.Different, "different"}, {v.Kept, "kept as the target had them"}} {
			if part.n > 0 {
				text += fmt.Sprintf(", %s %s", count(part.n), part.what)
			}
		}
		return text
	}
	return strings.TrimSpace(fmt.Sprintf("%s: %s, %s rows on the source, %s on the target", v.Table, word, count(v.SourceRows), count(v.TargetRows)))
}
