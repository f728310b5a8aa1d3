package precheck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

// finding is what one check has to say.
type finding struct {
	state     migration.ItemState
	found     string
	fix       string // SQL that psql takes as it stands, remarks behind --; or one sentence where it is none
	restart   bool   // the fix takes a restart of the server
	ignorable bool
}

// afterRestart says that the fix takes effect only then.
func (f finding) afterRestart() finding {
	f.restart = true
	return f
}

func passed(format string, args ...any) finding {
	return finding{state: migration.ItemPassed, found: fmt.Sprintf(format, args...)}
}

func notice(fix, format string, args ...any) finding {
	return finding{state: migration.ItemNotice, found: fmt.Sprintf(format, args...), fix: fix}
}

// alert blocks until it is ignored.
func alert(fix, format string, args ...any) finding {
	return finding{state: migration.ItemAlert, found: fmt.Sprintf(format, args...), fix: fix, ignorable: true}
}

// failed blocks, and cannot be ignored.
func failed(fix, format string, args ...any) finding {
	return finding{state: migration.ItemFailed, found: fmt.Sprintf(format, args...), fix: fix}
}

// together makes one finding of several: what blocks hides notices, and one that cannot be ignored makes all of it so.
// Without any it has no state.
func together(findings []finding) finding {
	var all finding
	for _, state := range []migration.ItemState{migration.ItemFailed, migration.ItemAlert, migration.ItemNotice} {
		if state == migration.ItemNotice && all.state != "" {
			break
		}
		var texts, fixes []string
		for _, f := range findings {
			if f.state != state {
				continue
			}
			texts = append(texts, f.found)
			all.restart = all.restart || f.restart
			if f.fix != "" && !slices.Contains(fixes, f.fix) {
				fixes = append(fixes, f.fix)
			}
		}
		if len(texts) == 0 {
			continue
		}
		if all.state == "" {
			all.state, all.ignorable = state, state == migration.ItemAlert
		}
		all.found = strings.TrimPrefix(all.found+"; "+clauses(texts), "; ")
		all.fix = strings.TrimPrefix(all.fix+"\n"+statements(fixes), "\n")
	}
	return all
}

// clauses joins sentences as list joins names.
func clauses(texts []string) string {
	if len(texts) <= listMax {
		return strings.Join(texts, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(texts[:listMax], "; "), len(texts)-listMax)
}

// listMax is how many names a sentence carries. The rest is counted.
const listMax = 20

func list(names []string) string {
	if len(names) <= listMax {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:listMax], ", "), len(names)-listMax)
}

// statements joins SQL, one statement per line. Unlike names they are never cut short: half a fix is none.
func statements(lines []string) string { return strings.Join(lines, "\n") }

// elsewhere wraps statements that psql must run in another database of the server than the migration's.
func elsewhere(database, home, sql string) string {
	if database == home {
		return sql
	}
	return fmt.Sprintf("\\connect %s\n%s\n\\connect %s", migration.Quote(database), sql, migration.Quote(home))
}

// count is "1 table", "3 tables".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func size(bytes int64) string {
	const unit = 1024
	value, exponent := float64(bytes), 0
	for value >= unit && exponent < 4 {
		value /= unit
		exponent++
	}
	return fmt.Sprintf("%.4g %s", value, []string{"B", "kB", "MB", "GB", "TB"}[exponent])
}
