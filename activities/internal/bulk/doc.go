// Package bulk copies tables as the definition wants them, without a long transaction on the source and without losing or
// doubling a row, whoever dies meanwhile.
//
// Plan cuts each table into key ranges. Lanes (Run) claim them one by one; a chunk is copied like this:
//
//	target: begin; Guard; lock the chunk's row                              (1)
//	source: begin repeatable read read only; lock the table; take (S, L)    (2)
//	source: S includes S0? same table as planned? same server?
//	source ── COPY out ──► 256 KB buffers ──► COPY in ── target             (3)
//	source: WAL is flushed beyond L; commit                                 (4)
//	target: chunk := done, S, L, rows; commit                               (5)
//
// S is a snapshot, L the insert position read after it, S0 the snapshot that the slot exported. What each transaction
// of the stream means for a table is decided from the smallest and the greatest S of its chunks alone.
//
//	I1  S ⊇ S0: a transaction that committed before the slot's start may still look unfinished to a snapshot taken later
//	    (it waits for a synchronous standby); the stream does not carry it, so a chunk must not miss it.
//	I2  the table is locked before S is taken: TRUNCATE and rewriting ALTER TABLE are not MVCC-safe, and an older
//	    snapshot would find an empty table without any error.
//	I3  L is flushed, seen from the session that took S: after a crash of the source unflushed transaction ids are
//	    handed out again, and the stream would skip the new owners' changes as already copied. Only a session that lived
//	    from (2) to (4) proves that no crash lay between.
//	I4  rows and "done" commit together; the chunk's row is locked throughout, so of two attempts one writes.
//	I5  snapshots of one primary are totally ordered by inclusion; chunks that are not came from two servers. A standby's
//	    snapshot does not list what runs, so a server in recovery is refused.
//	I6  a table without a key that can be trusted is of one snapshot, without a band. So is one that the target had before,
//	    with a unique index on other columns: rows of several snapshots may break it that no single one does. It is one
//	    chunk, or several by the place of their rows that share a snapshot: a row that moves would be missed or doubled
//	    between two.
//	I7  the copy removes and changes no row that the target had. Where there may be some, a chunk goes into a table of
//	    the transaction first, and (5) also says which keys were kept.
//
// A process that dies at (1) to (4) leaves nothing but a counted attempt; after (5) it leaves a chunk that is done. A
// frozen process holds its chunk's lock until the next attempt at its lane ends its sessions (ledger.Enter). When the
// last chunk of a table is done, a lane claims the table and builds key and plain indexes; one that dies there is known
// by its old token, and another lane takes the table over. Every lane stays until all tables are finished.
//
// Filters and transformations are evaluated by the source, inside the COPY, and bounds are of the source's key, or pages.
//
// Chunks are cut to equal bytes: a sample of rows is weighed with what they store out of line. Ranges of pages (since
// PostgreSQL 14) serve every table where all are of one snapshot anyway; else those whose keys are scattered over them,
// and those without a key, if they may be emptied: such a table has an epoch of its own. A lane takes a snapshot when the
// table is next, a second lane holds it too, and the table begins again only when both are gone, or when its file changed
// under the snapshot (TRUNCATE, VACUUM FULL, a rewrite). Nobody locks the table for longer than a chunk.
//
// A chunk, a key and an index cost a dozen transactions, whatever they hold. Whole tables that are small go together, up to
// fifty at a time: (1) locks all their chunks, (2) locks all tables before the one S, so that I1 to I6 hold for each as they
// do for one alone, (3) skips those that show no row under S, and (5) marks them done and takes them for the lane, which then
// builds all their keys and indexes in a transaction or two. What fails for several is done again one by one, and a chunk
// that was claimed before, by a lane that died, is never among several.
//
// Nothing that is done for each chunk may depend on how many are done. A transaction of the target that is older than the
// copy keeps what was updated from being cleaned up, so a lane claims from where it was in the order of claiming, and looks
// back once a second. What does look at everything, the count for the display and the search for tables that nobody has
// completed, is done the more seldom the longer it takes.
//
// A chunk gives way to a statement that has waited for the table for some seconds, is split before it begins when the rate
// was lowered, and is given up and split when it takes too long. Chunks of tables that are one chunk freeze their rows.
//
// Where no changes follow the copy, nothing would mend the differences between snapshots. Then S is one for all chunks: Hold
// exports it and keeps its session, and each reading transaction joins it before it locks the table. That turns I2 around,
// so that (2) also sees that the table's file is the one the snapshot knows. A snapshot that is lost, or that a TRUNCATE made
// useless, ends its epoch:
//
//	target: epoch := epoch + 1, no snapshot; chunks of the old one commit no more        (a)
//	target: tables that chunks were copied into are emptied, a few at a time             (b)
//	source: begin repeatable read read only; export S
//	target: every chunk is undone again, the snapshot's name is told; commit             (c)
//
// A holder that dies at (a) or (b) is followed by one that does it again. The copy cannot end between, because (a) happens
// only while a chunk is undone, and nothing can be copied before (c). The lanes wait, and what they read under the old
// snapshot fails at (5).
package bulk
