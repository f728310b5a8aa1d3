package bulk

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/pg"
)

// giveWayMax is how often a chunk gives way: an application that locks its table all the time must not stop the copy.
const giveWayMax = 5

// readWaiter asks for somebody who needs one of the tables for itself.
const readWaiter = `
select exists (
    select from pg_locks where locktype = 'relation' and relation = any ($1) and mode = 'AccessExclusiveLock' and not granted
        and database = (select oid from pg_database where datname = current_database()))`

// lookOut ends the reading of a chunk that keeps others on the source waiting, or that takes too long. It opens a session
// only when a chunk is read for so long that somebody may be waiting for it, and returns when ctx ends.
func (w *worker) lookOut(ctx context.Context) {
	var conn *pgx.Conn
	defer func() { pg.Close(conn) }()
	var waited *reading // the one that somebody was seen to wait for
	var since time.Time
	for {
		if sleep(ctx, max(w.config.GiveWayAfter/5, 10*time.Millisecond)) != nil {
			return
		}
		r := w.reading.Load()
		switch {
		case r == nil || time.Since(r.begun) < w.config.GiveWayAfter:
			waited = nil
			continue
		case r.divisible && time.Since(r.begun) > w.config.ChunkTimeMax:
			r.stop(errTooLong)
			continue
		case r.chunk.Attempts > giveWayMax:
			continue
		}
		var waiting bool
		var err error
		if conn == nil || conn.IsClosed() {
			conn, err = w.config.Source.Connect(ctx, w.lane.Session())
		}
		if err == nil {
			err = conn.QueryRow(ctx, readWaiter, r.relids).Scan(&waiting)
		}
		if err != nil && ctx.Err() == nil { // the copy goes on without: it has a session
			w.config.Log.Debug("looking for who waits failed", zap.Error(err))
			continue
		}
		switch {
		case !waiting:
			waited = nil
		case waited != r:
			waited, since = r, time.Now()
		case time.Since(since) >= w.config.GiveWayAfter:
			r.stop(errGaveWay)
		}
	}
}
