package precheck

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Versions that no machine here can run are told by their numbers.
func TestVersions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code           string
		source, target int
		state          migration.ItemState
		words          string
	}{
		{"SOURCE_VERSION", 90624, 150000, migration.ItemFailed, "PostgreSQL 9.6.24"},
		{"SOURCE_VERSION", 100003, 150000, migration.ItemFailed, "oldest that can be migrated is 10.4"},
		{"SOURCE_VERSION", 100004, 150000, migration.ItemPassed, "10.4"},
		{"SOURCE_VERSION", 180001, 150000, migration.ItemPassed, "18.1"},
		{"TARGET_VERSION", 150000, 90624, migration.ItemFailed, "PostgreSQL 9.6.24"},
		{"TARGET_VERSION", 160002, 150018, migration.ItemAlert, "15.18 and older than the source, 16.2"},
		{"TARGET_VERSION", 150018, 150002, migration.ItemPassed, "15.2"}, // an older minor is no obstacle
		{"TARGET_VERSION", 100004, 180000, migration.ItemPassed, "18.0"},
		{"KNOWN_BUGS", 140001, 150000, migration.ItemAlert, "mended in 14.2), and these keys can be: public.long"},
		{"KNOWN_BUGS", 140003, 150000, migration.ItemNotice, "mended in 14.4"},
		{"KNOWN_BUGS", 140004, 150000, migration.ItemPassed, "14.4"},
		{"KNOWN_BUGS", 100019, 150000, migration.ItemAlert, "mended in 10.20"},
		{"KNOWN_BUGS", 100020, 150000, migration.ItemPassed, "10.20"},
		{"DUMP_VERSION", 990000, 990000, migration.ItemFailed, "postgresql-client-99"},
	} {
		l := &look{source: session{version: test.source}, target: session{version: test.target}}
		l.Spec.Defaults()
		long := mapping.Table{Table: catalog.Table{
			Name: migration.TableName{Schema: "public", Name: "long"}, Key: []string{"id"},
			Columns: []catalog.Column{{Name: "id", Storage: "x"}},
		}}
		l.facts.chosen = func() (choice, error) {
			return choice{Selection: mapping.Selection{Tables: []mapping.Table{long}}}, nil
		}
		for _, check := range checks() {
			if check.code != test.code {
				continue
			}
			f, err := check.look(t.Context(), l)
			if err != nil || f.state != test.state || !strings.Contains(f.found+f.fix, test.words) {
				t.Errorf("%+v: %+v (%v)", test, f, err)
			}
			if f.state != migration.ItemPassed && f.fix == "" {
				t.Errorf("%+v: no remedy", test)
			}
		}
	}
}

// A code names one item of a side, and says what it is about; ignoring it must not ignore another.
func TestCodesAreUniqueOnEachSide(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range checks() {
		key := c.code + " " + string(c.side)
		if seen[key] || c.name == "" || c.look == nil || c.code != strings.ToUpper(c.code) {
			t.Errorf("%s", key)
		}
		seen[key] = true
	}
}

// A slot that a person made by the function may begin amid a transaction on servers that do not know better.
func TestBugOfGivenSlots(t *testing.T) {
	t.Parallel()
	for version, bad := range map[int]bool{120019: true, 120020: false, 130015: true, 140012: true, 150007: true, 150008: false, 160003: true, 170000: false} {
		l := &look{source: session{version: version}}
		l.Spec.Types, l.Spec.Incremental.Slot = []migration.Type{migration.TypeIncremental}, "mine"
		f, err := knownBugs(t.Context(), l)
		if err != nil || (f.state == migration.ItemAlert) != bad {
			t.Errorf("%s: %+v (%v)", versionText(version), f, err)
		}
	}
}

func TestHowManyStandbysACommitWaitsFor(t *testing.T) {
	t.Parallel()
	for names, want := range map[string]int{
		"": 0, "*": 1, "a, b": 1, "FIRST 2 (a, b, c)": 2, "any 3(*)": 3, "2 (a, b)": 2, "first": 1,
	} {
		if got := (standbys{Names: names, Commit: "on"}).needed(); got != want {
			t.Errorf("%q: %d, not %d", names, got, want)
		}
	}
	if (standbys{Names: "*", Commit: "local"}).needed() != 0 {
		t.Error("a local commit waits for nobody")
	}
}

var documented = regexp.MustCompile("(?m)^\\| `([A-Z_0-9]+)` \\|")

// Who meets a code looks it up.
func TestEveryCodeIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/precheck.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, match := range documented.FindAllStringSubmatch(string(page), -1) {
		if said[match[1]] {
			t.Errorf("docs/precheck.md lists %s twice", match[1])
		}
		said[match[1]] = true
	}
	for _, code := range Codes() {
		if !said[code] {
			t.Errorf("docs/precheck.md does not list %s", code)
		}
	}
	for code := range said {
		if !slices.Contains(Codes(), code) {
			t.Errorf("docs/precheck.md lists %s, and no check has it", code)
		}
	}
}
