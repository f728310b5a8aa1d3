package bulk

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/workflows/migration"
)

// pipeBytes is the size of what one side hands to the other. A bare pipe passes single rows and is five times slower.
const pipeBytes = 256 << 10

// errOtherSide tells the side that had to stop from the one that failed.
var errOtherSide = errors.New("the other side of the copy has failed")

var errStalled = errors.New("the copy moved no data for too long")

// pipe passes the rows of copyOut on the source to copyIn on the target, undecoded, in bounded memory. moved is told
// about each buffer. A failure on the target closes the source's session, which has more to say than anyone will read.
func (w *worker) pipe(ctx context.Context, source, target *pgx.Conn, copyOut, copyIn string, moved func(int)) (rows, bytes int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(w.config.StallMax, func() { cancel(errStalled) })
	defer stall.Stop()
	reader, writer := io.Pipe()
	metered := &meteredWriter{to: writer, moved: func(n int) {
		stall.Reset(w.config.StallMax)
		moved(n)
	}}
	var sent, received pgconn.CommandTag
	var sourceErr, targetErr error
	var group errgroup.Group // both ends close the pipe, which stops the other
	group.Go(func() error {
		buffer := bufio.NewWriterSize(metered, pipeBytes)
		sent, sourceErr = source.PgConn().CopyTo(ctx, buffer, copyOut)
		if sourceErr == nil {
			sourceErr = buffer.Flush()
		}
		return writer.CloseWithError(sourceErr)
	})
	group.Go(func() error {
		received, targetErr = target.PgConn().CopyFrom(ctx, reader, copyIn)
		return reader.CloseWithError(errOtherSide)
	})
	_ = group.Wait() // closing a pipe does not fail
	switch {
	case errors.Is(context.Cause(ctx), errStalled):
		return 0, 0, migration.NewFault(migration.FaultOther, "copy", "", errStalled, "")
	case sourceErr != nil && !errors.Is(sourceErr, errOtherSide):
		return 0, 0, w.config.Source.Fault("copy out", "", sourceErr)
	case targetErr != nil:
		return 0, 0, w.config.Target.Fault("copy in", "", targetErr)
	case sourceErr != nil || sent.RowsAffected() != received.RowsAffected():
		return 0, 0, migration.Faultf(migration.FaultBug, "copy", "", "the source sent %d rows, the target took %d",
			sent.RowsAffected(), received.RowsAffected())
	}
	return received.RowsAffected(), metered.bytes, nil
}

// meteredWriter counts what passes.
type meteredWriter struct {
	to    io.Writer
	moved func(int)
	bytes int64
}

func (m *meteredWriter) Write(data []byte) (int, error) {
	if err := failpoint.Hit(failpoint.CopyRows); err != nil {
		return 0, err
	}
	n, err := m.to.Write(data)
	m.bytes += int64(n)
	m.moved(n)
	return n, err
}
