// Package ledger is the memory of a migration. It lives in schema dts_sync of the target, so that what is known and
// what is done commit together; any process may die at any moment and the next one reads here where to go on.
//
// Rows are keyed by migration. Each writer works in a lane ("copy-3", "stream", "cutover") and carries the lane's
// fencing token: Enter takes a higher token and ends the sessions of earlier attempts, Guard refuses every transaction
// of a process whose token is no longer the newest, whose lease was taken by another execution, or whose target was
// opened.
//
//	I1  rows of a chunk and the chunk's "done" commit in one transaction.
//	I2  rows of a batch and progress.end_lsn commit in one transaction.
//	I3  after migration.opened_at is set, no transaction of a writer commits (Guard).
//	I4  an object on the source is recorded here before it is made there (slot, publications, identities).
package ledger
