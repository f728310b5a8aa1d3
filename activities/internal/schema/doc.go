// Package schema carries the definition of a database: it reads the source's objects by pg_dump, keeps each with its
// SQL and state in the target's ledger, and creates them in sections between which the data arrive.
//
// pg_dump knows how to write every kind of object of every version; what it writes is a custom-format archive, of which
// only the table of contents is read (Archive). The archive is not given to pg_restore, because an object must be
// created, retried, reported and skipped by itself, and because its "done" has to commit with it. pg_dump and the
// questions that the archive does not answer (which index is the key, which trigger fires always) see one snapshot.
//
//	before       schemas, extensions, types, functions, sequences, tables, views: empty, no index, nothing that fires
//	key          per table, when its rows are there: the index by which changes find a row
//	index        per table, then: plain indexes
//	constraint   when every band is closed: unique and exclusion indexes, attached indexes, checks, foreign keys,
//	             triggers, policies, contents of materialized views
//	opening      under the fence: what would disturb the apply of changes: rules on tables, triggers that fire even
//	             for the replica role, forced row security, event triggers; without the replica role all foreign keys
//	             (NOT VALID) and triggers
//	after        when the target is open: validation of those foreign keys, materialized views once more
//
// An object comes no earlier than what it depends on: a view that groups by a primary key waits for the key, as in
// pg_dump, and so do the views that read it.
//
// What of the source is meant, and under which names, is asked of package mapping. Single tables bring along what they need,
// as the archive and the catalog say it; what is meant but needs something that is not is kept as skipped, with the reason.
// Names inside the SQL of objects are rewritten by PostgreSQL's parser (package syntax) when the schema is read, so that
// the ledger holds names of the target only. Columns are changed by the server: a table is made as it was, and when all
// that stands before the data refers to it, an object COLUMNS drops and renames; what comes later and names such a column
// is made between two renamings, which are part of its SQL. With conflict: ignore nothing is altered that the target
// had: such objects are done with the message ledger.WasThere, and what belongs to them is left out.
//
// Invariants:
//
//	I1  an object and its state "done" commit in one transaction, so that no object is made twice or forgotten. Several
//	    that are quickly made share a transaction; when one of them fails, they are tried one by one.
//	I2  an object is tried only when everything it depends on is done; what depends on a skipped one is skipped.
//	I3  a failure is recorded with SQLSTATE and message and stops only what depends on it. Failures that say nothing
//	    about the object (connection, deadlock, disk full, cancelled) are returned and leave it pending.
//	I4  what was on the target before is not altered, not dropped, and not emptied, whatever begins anew.
//
// If the process dies while reading the schema, nothing was written. If it dies in an object's DDL, the server rolls
// back (the next attempt at the lane ends the session first) and the object is pending. After the commit it is done.
// Undo goes the same way backwards.
package schema
