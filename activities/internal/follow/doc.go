// Package follow runs the stream of changes into the target until it is told to stop, and answers what can only be known
// while it runs: how far the target is behind, and when it has passed a marker.
//
//	stream.Next ─▶ apply (durable) ─▶ stream.Confirm          pump
//	heartbeat into the source's log, the slot's state         pulse
//	lease on the ledger                                       lease
//
//	I1  The source is told a position only after it is durable in the target's progress row: Confirm follows Apply and Idle.
//	I2  Idle positions are recorded before they are confirmed, so that flush == progress always holds and a slot that is
//	    ahead of the target means lost changes, nothing else.
//	I3  Latency is 0 only after a heartbeat of this run has come back: a silent walsender may be decoding a backlog.
//
// If the process dies, the next run begins at the progress row; what was applied and not confirmed is not sent again, since
// the stream is opened at the progress row.
package follow
