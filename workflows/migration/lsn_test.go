package migration_test

import (
	"encoding/json"
	"testing"

	"github.com/pgdts/pgdts/workflows/migration"
)

func TestLSNReadsWhatServersPrint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]migration.LSN{
		"0/0": 0, "0/1": 1, "16/B374D848": 0x16_B374D848, "1/0": 1 << 32, "FFFFFFFF/FFFFFFFF": 1<<64 - 1, "0/a": 10,
	} {
		got, err := migration.ParseLSN(text)
		if err != nil || got != want {
			t.Errorf("%s: %d, not %d (%v)", text, got, want, err)
		}
	}
	for _, text := range []string{"", "/", "0", "0/", "/0", "1/2/3", "-1/0", "+1/0", "g/0", "0/100000000", "100000000/0", " 0/0", "0/0x1"} {
		if got, err := migration.ParseLSN(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

// Positions go through JSON into the workflow's history and back; one bit lost is a lost transaction.
func TestLSNSurvivesJSON(t *testing.T) {
	t.Parallel()
	type carrier struct {
		At   migration.LSN            `json:"at"`
		Keys map[migration.LSN]string `json:"keys"`
	}
	for _, l := range []migration.LSN{0, 1, 1<<32 - 1, 1 << 32, 0x16_B374D848, 1<<64 - 1} {
		data, err := json.Marshal(carrier{l, map[migration.LSN]string{l: "x"}})
		if err != nil {
			t.Fatal(err)
		}
		var back carrier
		if err := json.Unmarshal(data, &back); err != nil || back.At != l || back.Keys[l] != "x" {
			t.Errorf("%s became %+v (%v)", data, back, err)
		}
	}
	var l migration.LSN
	if err := json.Unmarshal([]byte(`"nowhere"`), &l); err == nil || l != 0 {
		t.Errorf("nonsense became %s", l)
	}
}

func FuzzLSN(f *testing.F) {
	f.Add(uint64(0x16_B374D848))
	f.Fuzz(func(t *testing.T, n uint64) {
		back, err := migration.ParseLSN(migration.LSN(n).String())
		if err != nil || back != migration.LSN(n) {
			t.Errorf("%d became %d (%v)", n, back, err)
		}
	})
}
