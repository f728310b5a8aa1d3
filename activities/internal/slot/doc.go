// Package slot makes, watches and removes what a migration needs on the source: publications, the replication slot, the
// replica identities it was allowed to change, and before PostgreSQL 14 the marker table. No other package creates or
// drops these.
//
//	1 record    names and identities in the ledger          ← dies: Prepare records again, Drop finds nothing
//	2 publish   identities, marker table, publications      ← dies: made again under the same names
//	3 create    the slot, with an exported snapshot         ← dies: the snapshot is lost, the slot is dropped and made again
//	4 record    start_lsn, start_snapshot, progress row     ← dies: found and returned
//
//	I1  A slot without a recorded start snapshot was never copied against: it may be dropped. One with a recorded snapshot
//	    that is gone is lost for ever: changes since then are, and no other slot has them.
//	I2  Publications are committed before the slot is created, so that no transaction is decoded with an older list.
//	I3  A table without usable key is never published for updates or deletes: the application's statements would fail.
//	I4  No transaction is open on the target while the slot is created: where both databases are one cluster, creation
//	    would wait for us.
//	I5  confirmed_flush_lsn never exceeds the progress row's end_lsn. Where it does, changes are gone that the target lacks.
//	I6  A slot that a person has made is used only where the publications are older than the changes that it holds.
//	I7  What an administrator has made for a role that may not (publications, marker table) is used as it stands, or
//	    refused; it is neither changed nor dropped. What is ours has a comment that says so.
//	I8  The ledger moves to another timeline of the source only where the old one ended at or behind the progress row's
//	    end_lsn, by a slot that the server itself synchronised, and when no row depends on a transaction id any more.
package slot
