package migration_test

import (
	"testing"

	"github.com/pgdts/pgdts/workflows/migration"
)

func TestCheckResultBlocks(t *testing.T) {
	t.Parallel()
	items := []migration.Item{
		{Code: "FINE", State: migration.ItemPassed},
		{Code: "HARMLESS", State: migration.ItemNotice},
		{Code: "ALERT", State: migration.ItemAlert, Ignorable: true},
		{Code: "HARD", State: migration.ItemAlert},
		{Code: "BROKEN", State: migration.ItemFailed},
	}
	for _, test := range []struct {
		ignore []string
		blocks []string
		rate   float64
	}{
		{nil, []string{"ALERT", "HARD", "BROKEN"}, 40},
		{[]string{"ALERT"}, []string{"HARD", "BROKEN"}, 60},
		{[]string{"ALERT", "HARD", "BROKEN", "UNHEARD"}, []string{"HARD", "BROKEN"}, 60}, // not everything may be ignored
	} {
		result := migration.NewCheckResult(append([]migration.Item(nil), items...), test.ignore)
		blocking := result.Blocking()
		if len(blocking) != len(test.blocks) || result.SuccessRate != test.rate {
			t.Fatalf("ignoring %v: %v, %g", test.ignore, blocking, result.SuccessRate)
		}
		for i, item := range blocking {
			if item.Code != test.blocks[i] {
				t.Errorf("ignoring %v: %s blocks", test.ignore, item.Code)
			}
		}
	}
}

// 100 % is said only when it is true.
func TestCheckResultDoesNotRoundUp(t *testing.T) {
	t.Parallel()
	items := make([]migration.Item, 3000)
	items[7].State = migration.ItemFailed
	if rate := migration.NewCheckResult(items, nil).SuccessRate; rate >= 100 {
		t.Errorf("%g with a failed item", rate)
	}
	if rate := migration.NewCheckResult(nil, nil).SuccessRate; rate != 100 {
		t.Errorf("%g of nothing", rate)
	}
}

// Checked again without the ignoring, an item blocks again.
func TestIgnoringDoesNotStick(t *testing.T) {
	t.Parallel()
	items := []migration.Item{{Code: "ALERT", State: migration.ItemAlert, Ignorable: true}}
	first := migration.NewCheckResult(items, []string{"ALERT"})
	if len(first.Blocking()) != 0 {
		t.Fatal("an ignored alert blocks")
	}
	if len(migration.NewCheckResult(first.Items, nil).Blocking()) != 1 {
		t.Error("it is ignored for ever")
	}
}
