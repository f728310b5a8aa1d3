package apply_test

import (
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
)

// epoch is where transaction ids begin again: the stream carries their lower half.
const epoch = uint64(1) << 32

// brink makes a source a few thousand transactions before ids go round.
func brink(t *testing.T) *rig {
	t.Helper()
	server := pgtest.Server(t)
	if !server.Binaries.Has("pg_resetwal") {
		t.Skip("no pg_resetwal for this version here")
	}
	must(t, server.LeapTo(t.Context(), epoch-20_000))
	r := newRigOn(t, server, pgtest.Shared(t), bandTables)
	r.source.Exec(t, `create procedure public.burn(upto bigint) language plpgsql as $$ begin
		while pg_catalog.txid_current() < upto loop commit; end loop; end $$`)
	return r
}

// burn uses all ids up that are left.
func (r *rig) burn() {
	r.t.Helper()
	conn := r.source.Conn(r.t)
	_, err := conn.Exec(r.t.Context(), "call public.burn($1)", epoch)
	must(r.t, err)
}

// Ids go round while chunks are copied: snapshots straddle it, and which transactions they see decides about each row.
func TestTransactionIDsGoRoundInTheBand(t *testing.T) {
	t.Parallel()
	r := brink(t)
	raceTheCopy(t, r, 38, func(m moment) {
		if m == midway {
			r.burn()
			return
		}
		const straddles = `select count(*)::int from dts_sync.tbl
			where split_part(smin, ':', 2)::numeric < 4294967296 and split_part(smax, ':', 2)::numeric > 4294967296`
		if pgtest.Value[int](t, r.target, straddles) == 0 {
			t.Fatalf("no table's copy straddles it: %v", r.target.Query(t, "select name, smin, smax from dts_sync.tbl"))
		}
	})
}

// Ids go round between the copy and the stream, which has everything to come.
func TestTransactionIDsGoRoundAfterTheCopy(t *testing.T) {
	t.Parallel()
	r := brink(t)
	raceTheCopy(t, r, 39, func(m moment) {
		if m == copied {
			if n := pgtest.Value[int](t, r.target, "select count(*)::int from dts_sync.tbl where split_part(smax, ':', 2)::numeric > 4294967296"); n > 0 {
				t.Fatalf("ids went round too early for %d tables", n)
			}
			r.burn()
		}
	})
	if pgtest.Value[int64](t, r.source, "select txid_current()") < int64(epoch) {
		t.Fatal("ids did not go round")
	}
}
