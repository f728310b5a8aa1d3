package migration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is what txid_current_snapshot() prints on a primary: all transactions below Xmin are finished, none from
// Xmax on has started, and Running lists the unfinished top-level ones between. Two snapshots of one primary are
// always ordered by inclusion, because transactions only ever leave the set of the running.
type Snapshot struct {
	Xmin, Xmax uint64
	Running    []uint64 // ascending
}

// ParseSnapshot reads the form xmin:xmax:x1,x2,…
func ParseSnapshot(s string) (Snapshot, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return Snapshot{}, fmt.Errorf("snapshot %q: want xmin:xmax:running", s)
	}
	var snap Snapshot
	var err error
	if snap.Xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %q: %w", s, err)
	}
	if snap.Xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %q: %w", s, err)
	}
	if parts[2] == "" {
		return snap, nil
	}
	for _, text := range strings.Split(parts[2], ",") {
		xid, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return Snapshot{}, fmt.Errorf("snapshot %q: %w", s, err)
		}
		snap.Running = append(snap.Running, xid)
	}
	slices.Sort(snap.Running)
	return snap, nil
}

// String is the form that ParseSnapshot reads.
func (s Snapshot) String() string {
	running := make([]string, len(s.Running))
	for i, xid := range s.Running {
		running[i] = strconv.FormatUint(xid, 10)
	}
	return fmt.Sprintf("%d:%d:%s", s.Xmin, s.Xmax, strings.Join(running, ","))
}

// IsZero tells a snapshot that was never taken.
func (s Snapshot) IsZero() bool { return s.Xmax == 0 }

// Sees reports whether the rows of a finished top-level transaction are visible. The stream carries 32-bit ids; the
// epoch is that of the nearest full id, which is exact while the slot's catalog_xmin holds the distance below 2^31.
func (s Snapshot) Sees(xid uint32) bool {
	return s.sees(s.Xmax + uint64(int64(int32(xid-uint32(s.Xmax)))))
}

func (s Snapshot) sees(xid uint64) bool {
	if xid < s.Xmin {
		return true
	}
	if xid >= s.Xmax {
		return false
	}
	_, running := slices.BinarySearch(s.Running, xid)
	return !running
}

// Includes reports whether everything that other sees is seen by s too: other ⊑ s.
func (s Snapshot) Includes(other Snapshot) bool {
	if other.Xmax > s.Xmax {
		return false
	}
	for _, xid := range s.Running {
		if other.sees(xid) {
			return false
		}
	}
	return true
}
