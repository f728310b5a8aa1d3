// Package cutover moves the writes from the source to the target: it waits until the target is close behind, keeps writers
// off the source, drains what is left, compares, sets sequences, opens the target, and closes the source for good. It
// also ends a migration in the other ways: Settle, Cleanup, Unfence.
//
//	gates      exact, constraints built, no conflict, latency low, no old transaction        nothing is blocked
//	fence      one session locks every migrated table against writers                     ─┐ 1
//	marker     a message in the log; drain: the target has passed it                       │ 2
//	verify     tables without key copied again where needed, all compared                  │ 3
//	sequences  exact                                                                        │ 4
//	marker     a second one: nothing was written between the two                           │
//	open       target transaction: objects of the opening                                  │
//	           source transaction: triggers that refuse writes; commit, locks go with it   │ 5
//	           target transaction: opened_at; commit                                      ─┘ 6
//	after      validation of foreign keys, materialized views: problems here are notes
//
// Invariants:
//
//	I1  Between the locks and the triggers there is no gap: the triggers are made in the transaction that holds the locks.
//	    A writer that waits for a lock finds the trigger when it gets it.
//	I2  The source refuses writes (triggers committed) before the target is opened (opened_at committed).
//	I3  Whatever may refuse writes on the source is recorded in the ledger before it is made there.
//	I4  Objects that would disturb the stream come into being with opened_at, in one transaction: a cutover that is
//	    given up leaves the target as the stream needs it.
//	I5  After opened_at nothing of ours writes a row of the user's, and nothing lifts the fence but Unfence.
//
// All of this is about the tables that the definition means. Others on the source stay writable, are neither counted nor
// named, and no statement of ours waits for them under the fence: what is meant is read at the gates. Where a table that
// is meant has one above it that is not (a partition alone), its trigger stands on each row: statements name the other.
//
// Under the fence a session that wants a table for itself (TRUNCATE, ALTER TABLE) waits for the fence, and every reader
// that comes later waits behind it. So what is compared or copied under the fence is read by the session that holds the
// locks where another one would have to wait.
//
// If the process dies before 5, the source's server ends the session (it ends by itself when nobody pings it) and with it
// the locks: the application goes on. Between 5 and 6 the source refuses writes and the target is not open: the next
// attempt sees opened_at empty, removes the triggers and begins anew. After 6 the next attempt finds opened_at and only
// does what comes after it.
//
// A role that may only read has the same fence by functions that an administrator has made (PreparedFence): they lock the
// tables for the fence's transaction and make the triggers in it. Whether they did so for every table is asked of the
// server, in that transaction, and not of them.
//
// What refuses writes lives in schema pgdts_fence of the source, which stays when the migration's other traces are
// removed: function moved_<short id>, whose comment tells what else was set. It is removed by Unfence alone.
package cutover
