// Package layers holds the rules of who may import whom.
package layers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/pgdts/pgdts/"

// pkg is what `go list -json` says of a package, its tests left out.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// rule forbids imports to the packages at or below a path.
type rule struct {
	of string
	// forbidden are paths which, with everything below them, are not imported.
	forbidden []string
	// allowed are exceptions from forbidden.
	allowed []string
	// direct looks at the package's own imports only, since the SDK itself imports os and net.
	direct bool
	why    string
}

var rules = []rule{
	{
		of:        module + "workflows",
		forbidden: []string{"os", "net", "database/sql"},
		allowed:   []string{"net/url", "net/netip"},
		direct:    true,
		why:       "a workflow that looks at the outside world does not replay",
	},
	{
		of:        module + "workflows",
		forbidden: []string{"github.com/jackc", module + "activities", module + "worker", module + "starter", module + "cmd"},
		why:       "workflows reach activities through the contracts in workflows/step",
	},
	{
		of:        module + "activities/internal",
		forbidden: []string{"go.temporal.io"},
		why:       "the engine is usable and testable without Temporal",
	},
	{
		of:        module + "activities",
		forbidden: []string{module + "worker", module + "starter", module + "cmd"},
		why:       "nothing points up",
	},
	{
		of:        module + "starter",
		forbidden: []string{module + "activities", module + "worker", module + "cmd"},
		why:       "programs that start migrations do not link the engine",
	},
	{
		of:        module + "worker",
		forbidden: []string{module + "starter", module + "cmd"},
		why:       "nothing points up",
	},
	{
		of:        module + "tests",
		forbidden: []string{module + "cmd"},
		direct:    true,
		why:       "only cmd imports cmd",
	},
}

func TestPackagesKeepToTheirLayer(t *testing.T) {
	t.Parallel()
	packages := list(t)
	for _, broken := range violations(packages) {
		t.Error(broken)
	}
	for _, p := range packages {
		if p.ImportPath == module+"workflows/migration" {
			standardOnly(t, p)
		}
	}
}

// The rules themselves are tried, since a rule with a misspelled path would forbid nothing.
func TestRulesSeeViolations(t *testing.T) {
	t.Parallel()
	for _, broken := range []pkg{
		{ImportPath: module + "workflows", Imports: []string{"os"}},
		{ImportPath: module + "workflows/step", Imports: []string{"net/http"}},
		{ImportPath: module + "workflows", Deps: []string{"github.com/jackc/pglogrepl"}},
		{ImportPath: module + "activities/internal/pg", Deps: []string{"go.temporal.io/sdk/activity"}},
		{ImportPath: module + "activities", Deps: []string{module + "starter"}},
		{ImportPath: module + "starter", Deps: []string{module + "activities/internal/pg"}},
		{ImportPath: module + "tests/demo", Imports: []string{module + "cmd/pgdts"}},
	} {
		if len(violations([]pkg{broken})) != 1 {
			t.Errorf("allowed: %+v", broken)
		}
	}
	fine := pkg{ImportPath: module + "workflows", Imports: []string{"net/url"}, Deps: []string{"os", "net", module + "workflows/step"}}
	if got := violations([]pkg{fine}); len(got) != 0 {
		t.Errorf("forbidden: %v", got)
	}
}

func violations(packages []pkg) []string {
	var all []string
	for _, p := range packages {
		for _, r := range rules {
			if !below(p.ImportPath, r.of) {
				continue
			}
			imports := p.Deps
			if r.direct {
				imports = p.Imports
			}
			for _, imported := range imports {
				if belowAny(imported, r.forbidden) && !belowAny(imported, r.allowed) {
					all = append(all, fmt.Sprintf("%s imports %s: %s", p.ImportPath, imported, r.why))
				}
			}
		}
	}
	return all
}

// standardOnly keeps the nouns free of everything, so that any program can use them.
func standardOnly(t *testing.T, p pkg) {
	t.Helper()
	for _, imported := range p.Deps {
		// Paths of the standard library have no dot in their first part.
		first, _, _ := strings.Cut(imported, "/")
		if strings.Contains(first, ".") {
			t.Errorf("%s imports %s, which is not of the standard library", p.ImportPath, imported)
		}
	}
}

func below(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

func belowAny(path string, parents []string) bool {
	for _, parent := range parents {
		if below(path, parent) {
			return true
		}
	}
	return false
}

func list(t *testing.T) []pkg {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,Deps", module+"...")
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	var packages []pkg
	for {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 2 {
		t.Fatalf("go list named only %d packages", len(packages))
	}
	return packages
}
