// Package apply writes the source's transactions to the target: exactly once, in commit order, in few statements.
//
// # Mechanism
//
//	transactions ──► decide ──► event ──► fold ──► actions ──► pipeline ──► target
//	                 skip        per row   per key   per shape   unnest        rows + progress row in one transaction
//	                 band
//	                 exact
//
// A table was copied in chunks, each under a snapshot of its own. For a transaction T and a table t, decide asks the
// smallest and the greatest of these snapshots (visibility by transaction id, never by position in the log, since a
// commit is in the log before it is visible):
//
//	smin sees T            skip   every chunk holds T already
//	smax does not see T    exact  no chunk holds T: each change must fit the target's rows exactly
//	otherwise              band   some chunks hold T: changes converge (upsert, delete, update if there)
//
// The band of a table closes when the stream has passed hi_lsn, the end of the log when its last snapshot was taken.
//
// In the band a row's key may move from k1 to k2 with a TOASTed value that was not sent, because it did not change.
// The row k1 on the target may be another one by now, so that nothing is taken from it: k1 is deleted, and if k2 is not
// there the row is read from the source again. The reading snapshot must see T, and is added to the table's snapshots:
// the band lasts until the stream has passed that one as well.
//
// Changes of one key in one batch fold into one. What folds in the band stays in the band: an insertion and a deletion
// are a deletion there, not nothing. Keys that are equal although their texts differ (numeric 1.0 and 1.00) fold by a
// normal form where there is one; tables with other such keys (citext, interval) are written change by change.
//
// # Where the target differs on purpose
//
// A change is read by the source's names; package mapping says what becomes of it. Other names and columns left out change
// nothing else. A table with a filter, an expression, fewer operations, rows that the copy kept, or another source beside
// it converges for ever, and so does every table where changes begin at a moment that the target's rows know nothing of:
// nothing is counted and nothing is a conflict.
//
//	given ──► x.o0 x.o1 … (old)  ──► k.s3, k.keep     computed by the target, from the source's values under the
//	          x.n0 x.n1 … (new)  ──► e.s3, e.keep     source's names and types
//
//	filter       a row that is not wanted is deleted by its key, one that is wanted is upserted, so that it does not matter
//	             where it was. That takes every value: an image without some is a fault
//	operations   what is not wanted is dropped before it folds. What the copy may have brought belongs to the copy, and is
//	             applied whatever it is. Without insertions an update changes what is there, and a new key is taken by the
//	             row that is there, before which a leftover gives way
//	kept rows    differ from the source's until a change brings all their values; one that does not makes the row be read
//	             again. dts_sync.kept has their keys
//	merge        the constants in the target's key keep the sources apart; TRUNCATE deletes by them, or asks
//
// A key change whose row is as it was (the copy is over, and somebody knows the target's rows) takes the row along where
// values were not sent; a row that is not there is read again.
//
// # Invariants
//
//	I1  Rows and progress row commit in one transaction; the progress row moves from the position that this process
//	    left it at, under this process's token, or the transaction fails.
//	I2  The target's state at every commit is that of a commit prefix of the source (per table, once its band is closed).
//	    A transaction too large for memory is applied in parts inside one open target transaction.
//	I3  In the exact regime every change hits exactly the row that it must. A change that does not is found by replaying
//	    the batch change by change; then the source wins and the row is recorded, or the migration stops.
//	I4  A change is never dropped: a table that is unknown, or not as it was planned, is a fault before its change is
//	    applied.
//	I5  An unchanged TOASTed value is never written as NULL: the column is left out of the statement, or the value comes
//	    from the same row's earlier change in the batch, from the full old row, or from the source.
//
// # Ways down
//
// A batch is first written folded, under a savepoint, in one or few round trips. Unique, exclusion, check and foreign
// key violations may come from the order in which folding writes. Then the batch is written again with the table that
// failed in source order; if that fails as well, or a count was wrong, everything goes in source order, one statement
// and one round trip per change, where a row that does not fit can be named. Source order is valid for immediate
// constraints because the source checked them row by row; deferrable ones are deferred.
//
// # When the process dies
//
//	before COMMIT reaches the target    the target rolls back; the next process reads the old position and receives
//	                                    the same transactions again
//	while COMMIT is on its way          the next process reads the progress row, which tells whether it happened; this
//	                                    process never assumes either, it returns the connection's fault
//	after COMMIT, before it was told    the next process reads the new position; transactions that come again are skipped
//	inside a transaction's parts        as before COMMIT: nothing of it stays
//	after a row was read again          the row, its snapshot and the new end of the band are in the same transaction
//
// A process that is only frozen is kept out by the lane's token (every transaction begins with it), by the lock on the
// progress row, and by its position.
package apply
