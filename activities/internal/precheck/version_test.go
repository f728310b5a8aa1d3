package precheck

import (
	"strings"
	"testing"

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
		{"DUMP_VERSION", 990000, 990000, migration.ItemFailed, "postgresql-client-99"},
	} {
		l := &look{source: session{version: test.source}, target: session{version: test.target}}
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
