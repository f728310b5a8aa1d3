package schema_test

import (
	"fmt"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
)

// Every version that may be a source gives the same shop on this machine's version, and this machine's on every version
// that may be a target. Versions that cannot be had are skipped.
func TestVersionsUnderstandEachOther(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 11, 12, 13, 14} {
		t.Run(fmt.Sprint("from ", major), func(t *testing.T) {
			t.Parallel()
			server := pgtest.Server(t, pgtest.Major(major))
			m := newMoveBetween(t, server, pgtest.Shared(t), shopFor(t, major))
			m.load(t)
			m.create(t, everything...)
			m.mustBeEqual(t, "--schema=shop")
		})
	}
	for _, major := range []int{13, 14, 16, 17, 18} {
		t.Run(fmt.Sprint("to ", major), func(t *testing.T) {
			t.Parallel()
			m := newMoveBetween(t, pgtest.Shared(t), pgtest.Server(t, pgtest.Major(major)), fixture(t, shop))
			m.load(t)
			m.create(t, everything...)
			for _, section := range everything {
				counts, err := m.led.CountObjects(t.Context(), section)
				if err != nil || counts.Failed+counts.Skipped > 0 {
					t.Errorf("%s: %+v, error %v", section, counts, err)
				}
			}
			if n := pgtest.Value[int](t, m.target, "select count(*) from pg_constraint where connamespace = 'shop'::regnamespace and contype = 'f' and conparentid = 0"); n != 10 {
				t.Errorf("%d foreign keys", n)
			}
		})
	}
}

// shopFor is a schema that a version knows.
func shopFor(t *testing.T, major int) string {
	t.Helper()
	if major < 12 {
		return fixture(t, "testdata/old.sql")
	}
	return fixture(t, shop)
}
