package migration_test

import (
	"fmt"
	"testing"

	"github.com/pgdts/pgdts/workflows/migration"
)

func snapshot(t *testing.T, text string) migration.Snapshot {
	t.Helper()
	s, err := migration.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSnapshotReadsWhatServersPrint(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"740:743:740", "733:733:", "10:20:10,11,19", "4294967290:4294967300:4294967295"} {
		if got := snapshot(t, text).String(); got != text {
			t.Errorf("%s became %s", text, got)
		}
	}
	for _, text := range []string{"", "1", "1:2", "1:2:3:4", "a:2:", "1:b:", "1:2:c", "1:2:3,", "-1:2:", "1:2:3;4"} {
		if s, err := migration.ParseSnapshot(text); err == nil {
			t.Errorf("%q is %s", text, s)
		}
	}
	if (migration.Snapshot{}).IsZero() == snapshot(t, "1:1:").IsZero() {
		t.Error("a snapshot that was never taken looks like one that was")
	}
}

// What a snapshot sees is skipped by the stream, and what it does not see is applied: each wrong answer is a lost or a
// double row.
func TestSnapshotSees(t *testing.T) {
	t.Parallel()
	s := snapshot(t, "100:110:100,105,109")
	for xid := uint32(3); xid < 200; xid++ {
		want := xid < 110 && xid != 100 && xid != 105 && xid != 109
		if s.Sees(xid) != want {
			t.Errorf("xid %d: %t", xid, !want)
		}
	}
}

// The stream carries 32 bits; a snapshot that straddles 2^32 must tell old from new.
func TestSnapshotSeesAcrossTheEpoch(t *testing.T) {
	t.Parallel()
	const epoch = uint64(1) << 32
	s := snapshot(t, fmt.Sprintf("%d:%d:%d,%d", epoch-6, epoch+6, epoch-6, epoch+4))
	for full, want := range map[uint64]bool{
		epoch - 1000: true,
		epoch - 7:    true,
		epoch - 6:    false, // running
		epoch - 5:    true,
		epoch - 1:    true,
		epoch + 3:    true,
		epoch + 4:    false, // running
		epoch + 5:    true,
		epoch + 6:    false, // not begun
		epoch + 1000: false,
		// As far as the slot lets ids run apart.
		epoch + 6 - 1<<31: true,
		epoch + 5 + 1<<31: false,
	} {
		if s.Sees(uint32(full)) != want { //nolint:gosec // the truncation is what is tested
			t.Errorf("xid %d: %t", full, !want)
		}
	}
	late := snapshot(t, fmt.Sprintf("%d:%d:", 3*epoch+10, 3*epoch+10))
	if !late.Sees(9) || late.Sees(10) || !late.Sees(1<<32-1) {
		t.Error("the third epoch is not told from the second")
	}
}

func TestSnapshotIncludes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		s, other string
		want     bool
	}{
		{"100:110:105", "100:110:105", true},
		{"110:110:", "100:110:105", true},
		{"100:110:105", "110:110:", false}, // 105 is seen there, and not here
		{"100:120:105", "100:110:105", true},
		{"100:109:105", "100:110:105", false}, // an earlier one
		{"100:120:105,115", "100:110:105", true},
		{"100:120:101", "100:110:105", false},
		{"727:727:", "727:728:", false}, // a commit that waits for its standby: seen by the slot, by no later snapshot
		{"4294967295:4294967300:4294967295", "4294967290:4294967296:4294967290,4294967295", true},
		{"4294967293:4294967300:4294967293,4294967299", "4294967290:4294967296:4294967290,4294967295", false},
		{"5:5:", "0:0:", true},
	} {
		s, other := snapshot(t, test.s), snapshot(t, test.other)
		if test.other == "0:0:" {
			other = migration.Snapshot{}
		}
		if s.Includes(other) != test.want {
			t.Errorf("%s includes %s: %t", test.s, test.other, !test.want)
		}
	}
}

// Includes is what it says: no transaction is seen by the other and not by this one. Every history of four
// transactions, and every pair of moments in it.
func TestSnapshotIncludesAgreesWithSees(t *testing.T) {
	t.Parallel()
	const first, n = 10, 4
	var all []migration.Snapshot
	for begun := range n + 1 {
		for ended := range 1 << begun {
			s := migration.Snapshot{Xmax: uint64(first + begun)}
			for x := range begun {
				if ended&(1<<x) == 0 {
					s.Running = append(s.Running, uint64(first+x))
				}
			}
			s.Xmin = s.Xmax
			if len(s.Running) > 0 {
				s.Xmin = s.Running[0]
			}
			all = append(all, s)
		}
	}
	for _, s := range all {
		for _, other := range all {
			want := true
			for x := uint32(first - 2); x < first+n+2; x++ {
				want = want && (s.Sees(x) || !other.Sees(x))
			}
			// A later xmax with nothing more seen is later all the same: only the claim of inclusion must hold.
			if got := s.Includes(other); got && !want || !got && want && s.Xmax >= other.Xmax {
				t.Errorf("%s includes %s: %t", s, other, got)
			}
		}
	}
}
