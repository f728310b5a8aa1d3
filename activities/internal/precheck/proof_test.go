package precheck_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	pgquery "github.com/wasilibs/go-pgquery"

	"github.com/pgdts/pgdts/activities/internal/precheck"
	"github.com/pgdts/pgdts/workflows/migration"
)

// proofs remember which test has asserted what about which item. An item that no test has made a server fail, or that
// none has seen pass, is one that nobody knows to work. Assertions by mustBe, mustRead and mustPass are remembered.
type proofs struct {
	sync.Mutex
	good, bad map[string]string // by code, the first test that asserted it
}

var proved = proofs{good: map[string]string{}, bad: map[string]string{}}

func (p *proofs) saw(t *testing.T, item migration.Item) {
	p.Lock()
	defer p.Unlock()
	seen := p.bad
	if item.State == migration.ItemPassed {
		seen = p.good
	}
	if seen[item.Code] == "" {
		seen[item.Code] = t.Name()
	}
}

// provedElsewhere are items whose other state takes what no machine has; TestVersions tells them by their numbers.
var provedElsewhere = []string{"SOURCE_VERSION", "DUMP_VERSION", "KNOWN_BUGS"}

// missing is asked after all tests. Of some of them it cannot tell.
func (p *proofs) missing() error {
	if flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" || testing.Short() {
		return nil
	}
	var lacking []string
	for _, code := range slices.Compact(slices.Sorted(slices.Values(precheck.Codes()))) {
		if p.bad[code] == "" && !slices.Contains(provedElsewhere, code) {
			lacking = append(lacking, code+" finding something")
		}
		if p.good[code] == "" {
			lacking = append(lacking, code+" passing")
		}
	}
	if len(lacking) > 0 {
		return fmt.Errorf("no test asserts: %s", strings.Join(lacking, ", "))
	}
	return nil
}

// mustBeTypable checks that a fix is what a person can give to psql without reading it, or else one sentence. What may be
// amiss with a connection is told by package pg.
func mustBeTypable(t *testing.T, item migration.Item) {
	t.Helper()
	if item.Fix == "" || strings.HasSuffix(item.Code, "_CONNECTION") {
		return
	}
	var sql, said []string
	for line := range strings.SplitSeq(item.Fix, "\n") {
		if !strings.HasPrefix(line, `\connect `) {
			sql = append(sql, line)
		}
		if line, _, _ = strings.Cut(line, "-- "); line != "" {
			said = append(said, line)
		}
	}
	found, err := statementsOf(strings.Join(sql, "\n"))
	switch {
	case err != nil && len(said) == 1 && !strings.HasSuffix(said[0], ";"): // a sentence
	case err != nil:
		t.Errorf("the fix of %s is neither SQL nor one sentence: %q: %v", item.Code, item.Fix, err)
	case len(found) == 0:
		t.Errorf("the fix of %s does nothing: %q", item.Code, item.Fix)
	case strings.Contains(strings.Join(said, "\n"), "…"):
		t.Errorf("the fix of %s leaves something out: %q", item.Code, item.Fix)
	}
}

// statementsOf splits SQL as the server would: a fix may bring functions.
func statementsOf(sql string) ([]string, error) {
	tree, err := pgquery.Parse(sql)
	if err != nil {
		return nil, err
	}
	var statements []string
	for _, raw := range tree.GetStmts() {
		end := len(sql)
		if raw.GetStmtLen() > 0 {
			end = int(raw.GetStmtLocation() + raw.GetStmtLen())
		}
		statements = append(statements, sql[raw.GetStmtLocation():end])
	}
	return statements, nil
}
