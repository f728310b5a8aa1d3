package precheck

import (
	"fmt"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

// finding is what one check has to say.
type finding struct {
	state     migration.ItemState
	found     string
	fix       string
	ignorable bool
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
