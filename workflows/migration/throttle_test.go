package migration_test

import (
	"testing"

	"github.com/pgdts/pgdts/workflows/migration"
)

// The numbers are documented, and people size their servers by them.
func TestClassesAreWhatTheDocumentationSays(t *testing.T) {
	t.Parallel()
	for class, want := range map[migration.Class]struct {
		copy, index int
		rows        float64
		memory      int64
	}{
		migration.ClassSmall:   {2, 1, 2_000, 64 << 20},
		migration.ClassMedium:  {4, 2, 5_000, 128 << 20},
		migration.ClassLarge:   {8, 2, 6_000, 256 << 20},
		migration.ClassXLarge:  {12, 4, 7_000, 512 << 20},
		migration.Class2XLarge: {16, 8, 11_000, 1 << 30},
	} {
		spec := migration.Spec{Class: class}
		spec.Defaults()
		if got := spec.Parallel; got != (migration.Parallel{Copy: want.copy, Index: want.index}) {
			t.Errorf("%s: parallel %+v", class, got)
		}
		if got := spec.Throttle; got != (migration.Throttle{Incremental: migration.IncrementalThrottle{RowsPerSecond: want.rows}}) {
			t.Errorf("%s: throttle %+v", class, got)
		}
		if preset, known := class.Preset(); !known || preset.IndexMemory != want.memory {
			t.Errorf("%s: memory of an index build %d", class, preset.IndexMemory)
		}
	}
	none := migration.Spec{}
	none.Defaults()
	if none.Throttle != (migration.Throttle{}) {
		t.Errorf("no class: throttle %+v", none.Throttle)
	}
	if _, known := migration.Class("huge").Preset(); known {
		t.Error("a class that is none is known")
	}
}

func TestWhatIsWrittenWinsOverItsClass(t *testing.T) {
	t.Parallel()
	spec := migration.Spec{Class: migration.Class2XLarge, Parallel: migration.Parallel{Copy: 3}}
	spec.Throttle.Incremental.RowsPerSecond = 17
	spec.Throttle.Full.MegabytesPerSecond = 5
	written := spec.Throttle
	spec.Defaults()
	if spec.Parallel != (migration.Parallel{Copy: 3, Index: 8}) || spec.Throttle != written {
		t.Errorf("became %+v, %+v", spec.Parallel, spec.Throttle)
	}
	again := spec
	again.Defaults()
	if again.Parallel != spec.Parallel || again.Throttle != spec.Throttle {
		t.Error("defaults of defaults differ")
	}
	alone := migration.Spec{Class: migration.ClassSmall, Types: []migration.Type{migration.TypeSchema, migration.TypeFull}}
	alone.Defaults()
	if alone.Throttle != (migration.Throttle{}) {
		t.Errorf("a rate of changes where there are none: %+v", alone.Throttle)
	}
}

func TestThrottleReadsAsText(t *testing.T) {
	t.Parallel()
	throttle := migration.Throttle{
		Full:        migration.FullThrottle{QueriesPerSecond: 0.5, MegabytesPerSecond: 20},
		Incremental: migration.IncrementalThrottle{RowsPerSecond: 11_000},
	}
	for phase, want := range map[migration.Phase]string{
		migration.PhaseCopy:        "copy 20 MB/s, 0.5 queries/s; changes 11000 rows/s",
		migration.PhaseIncremental: "changes 11000 rows/s",
		migration.PhaseFinished:    "",
	} {
		if got := throttle.Text(phase); got != want {
			t.Errorf("%s: %q", phase, got)
		}
	}
}
