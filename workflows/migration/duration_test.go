package migration_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

func TestDurationNeedsItsUnit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		`"90s"`: 90 * time.Second, `"10m"`: 10 * time.Minute, `"12h"`: 12 * time.Hour, `"1h30m"`: 90 * time.Minute, `"0s"`: 0,
	} {
		var d migration.Duration
		if err := json.Unmarshal([]byte(text), &d); err != nil || d.D() != want {
			t.Errorf("%s: %s (%v)", text, d, err)
		}
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back migration.Duration
		if err := json.Unmarshal(data, &back); err != nil || back != d {
			t.Errorf("%s became %s (%v)", data, back, err)
		}
	}
	for _, text := range []string{`10`, `"10"`, `""`, `"1d"`, `"ten minutes"`, `null x`, `{}`, `true`} {
		var d migration.Duration
		if err := json.Unmarshal([]byte(text), &d); err == nil {
			t.Errorf("%s is %s", text, d)
		}
	}
}
