// Package stream reads the source's changes from a replication slot: one walsender, one goroutine that decodes into a
// queue bounded in bytes, and one that tells the source how far we are.
//
//	copy of the slot, in SQL ─▶ ahead ─┐  (a backlog, first)
//	walsender ─▶ socket ─▶ buffer ─▶ reader ─▶ queue ─▶ Next
//	    ▲                                                 │ applied, durable
//	    └───────────────── pulse ◀──────── Confirm ◀──────┘
//
//	I1  The flush position that the source is told is the newest that was given to Confirm, or Start; it only grows.
//	I2  The pulse never waits for reader or queue: a target that stands still does not cost the connection, because a
//	    walsender that cannot send still reads our replies.
//	I3  An idle position is handed out only when every transaction before it was handed out and none is open.
//	    Only the start of another walsender in the place of the first makes it wait.
//	I4  The queue holds BudgetBytes and one part of a transaction; the reader waits beyond that, and so does the walsender.
//
//	I5  What is read ahead is pushed in whole transactions, in the order of the log, and the walsender goes on at the end of the
//	    last one that was pushed, however reading ahead has ended.
//	I6  While a backlog is read ahead, the walsender on the slot itself is open and unread: nobody else can move the slot, and
//	    the source forgets nothing that is not confirmed.
//
// If the process dies, the slot stays where it was last told to be; the next session begins at the progress row.
package stream
