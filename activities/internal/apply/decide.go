package apply

import "github.com/pgdts/pgdts/workflows/migration"

// regime says how a transaction's changes of a table meet the rows that the copy has brought.
type regime byte

const (
	skip  regime = iota // every copied row has the transaction already
	band                // some may: changes converge
	exact               // none has: changes fit exactly
)

// snapshots are what a table was copied under, as far as decisions need it.
type snapshots struct {
	// closed: the stream has passed the end of the band, so that no transaction to come is seen by any snapshot. It also
	// keeps transaction ids from being compared over more than half of their range.
	closed     bool
	smin, smax migration.Snapshot // zero where nothing was copied
	extra      []migration.Snapshot
	high       migration.LSN
}

// decide is for transactions in stream order.
func (s *snapshots) decide(xid uint32) regime {
	switch {
	case s.closed:
		return exact
	case !s.smin.IsZero() && s.smin.Sees(xid):
		return skip
	case !s.smax.IsZero() && s.smax.Sees(xid):
		return band
	}
	for _, snapshot := range s.extra {
		if snapshot.Sees(xid) {
			return band
		}
	}
	return exact
}

// copies reports whether some chunk holds the transaction.
func (s *snapshots) copies(xid uint32) bool {
	return !s.closed && !s.smax.IsZero() && s.smax.Sees(xid)
}

// extend adds the snapshot of a row that was read from the source again.
func (s *snapshots) extend(snapshot migration.Snapshot, high migration.LSN) {
	s.extra = append(s.extra, snapshot)
	s.high = max(s.high, high)
	s.closed = false
}

// pass closes the band when the stream has reached its end, and reports whether it did so just now.
func (s *snapshots) pass(position migration.LSN) bool {
	if s.closed || position < s.high {
		return false
	}
	s.close()
	return true
}

// close forgets the snapshots. A band that is opened again is that of a row that was read again: of the copy's snapshots,
// which may be so old by then that transaction ids have gone round, nothing may be asked any more.
func (s *snapshots) close() {
	s.closed, s.extra = true, nil
	s.smin, s.smax = migration.Snapshot{}, migration.Snapshot{}
}
