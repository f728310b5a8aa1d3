// Command testlog reads the events of `go test -json` and prints what a person wants to know: a line
// for each package, the output of what failed, and every test that was skipped with its reason.
// It exits with 1 when something failed or nothing ran.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// event is one line of `go test -json`, see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

// tally collects what the end of the run has to tell.
type tally struct {
	out     io.Writer
	output  map[string]*strings.Builder // By package and test, until it has ended.
	skipped []string
	passed  int
	slow    []event // Tests that took long, those inside others left out.
	failed  []string
	broken  int // Packages that failed, also those that did not build.
}

func main() {
	t := &tally{out: os.Stdout, output: map[string]*strings.Builder{}}
	if err := t.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(1)
	}
	t.summary()
	if len(t.failed)+t.broken > 0 || t.passed == 0 {
		os.Exit(1)
	}
}

func (t *tally) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			t.line(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
}

// line passes on what is no event, such as a complaint of the go command itself.
func (t *tally) line(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		fmt.Fprintf(t.out, "%s", line)
		return
	}
	t.event(e)
}

func (t *tally) event(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(t.out, e.Output)
	case "output":
		if t.output[key] == nil {
			t.output[key] = &strings.Builder{}
		}
		t.output[key].WriteString(e.Output)
	case "pass", "fail", "skip":
		t.ended(e, t.take(key))
	}
}

// take returns the output of a test that has ended and forgets it.
func (t *tally) take(key string) string {
	text := t.output[key]
	delete(t.output, key)
	if text == nil {
		return ""
	}
	return text.String()
}

func (t *tally) ended(e event, output string) {
	switch {
	case e.Test == "" && e.Action == "fail":
		t.broken++
		fmt.Fprintf(t.out, "%s%sFAIL  %s  %.1fs\n", t.unfinished(e.Package), output, e.Package, e.Elapsed)
	case e.Action == "fail":
		t.failed = append(t.failed, e.Package+" "+e.Test+"\n"+complaint(output))
		fmt.Fprint(t.out, output)
	case e.Test == "" && e.Action == "pass":
		fmt.Fprintf(t.out, "ok    %s  %.1fs\n", e.Package, e.Elapsed)
	case e.Action == "pass":
		t.passed++
		if e.Elapsed >= slowSeconds && !strings.Contains(e.Test, "/") {
			t.slow = append(t.slow, e)
		}
	case e.Test != "":
		t.skipped = append(t.skipped, e.Package+" "+e.Test+": "+reason(output))
	}
}

// unfinished is what the tests of a package have said that did not live to see their end: one of
// them has the panic or the time-out.
func (t *tally) unfinished(name string) string {
	var all strings.Builder
	for _, key := range slices.Sorted(maps.Keys(t.output)) {
		if strings.HasPrefix(key, name+" ") {
			all.WriteString(t.take(key))
		}
	}
	return all.String()
}

// reason is what the test has logged, without the lines of the framework.
func reason(output string) string {
	var kept []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, " ")
}

// complaint is the first failed assertion, which stands above all that the servers had to say.
func complaint(output string) string {
	_, after, found := strings.Cut(output, "Error Trace:")
	if !found {
		return ""
	}
	lines := strings.SplitN(after, "\n", complaintLines+1)
	return "      " + strings.Join(lines[:min(len(lines), complaintLines)], "\n") + "\n"
}

const complaintLines = 12

// slowSeconds and slowest bound the list of tests at which to look when the run takes long.
const (
	slowSeconds = 20
	slowest     = 15
)

func (t *tally) summary() {
	slices.SortFunc(t.slow, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, e := range t.slow[:min(len(t.slow), slowest)] {
		fmt.Fprintf(t.out, "slow  %s %s  %.1fs\n", e.Package, e.Test, e.Elapsed)
	}
	fmt.Fprintf(t.out, "\n%d tests passed, %d failed, %d were skipped; %d packages failed\n",
		t.passed, len(t.failed), len(t.skipped), t.broken)
	for _, text := range t.failed {
		fmt.Fprint(t.out, "  failed: ", text)
	}
	for _, line := range t.skipped {
		fmt.Fprintln(t.out, "  skipped:", line)
	}
}
