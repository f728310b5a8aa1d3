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
	"github.com/pgdts/pgdts/activities/internal/throttle"
	"github.com/pgdts/pgdts/workflows/migration"
)

// pipeBytes is the size of what one side hands to the other. A bare pipe passes single rows and is five times slower.
const pipeBytes = 256 << 10

// errOtherSide tells the side that had to stop from the one that failed.
var errOtherSide = errors.New("the other side of the copy has failed")

var errStalled = errors.New("the copy moved no data for too long")

// pipe passes the rows of copyOut on the source to copyIn on the target, undecoded, in bounded memory, as fast as the gate
// lets them. moved is told about each portion. A failure on the target closes the source's session, which has more to say
// than anyone will read.
func (w *worker) pipe(ctx context.Context, source, target *pgx.Conn, copyOut, copyIn string, moved func(int)) (rows, bytes int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(w.config.StallMax, func() { cancel(errStalled) })
	defer stall.Stop()
	reader, writer := io.Pipe()
	metered := &meteredWriter{
		ctx: ctx, to: writer, gate: w.config.Gate, stall: stall, stallMax: w.config.StallMax, moved: moved, portion: pipeBytes,
	}
	var sent, received pgconn.CommandTag
	var sourceErr, targetErr error
	var group errgroup.Group // both ends close the pipe, which stops the other
	group.Go(func() error {
		sent, sourceErr = copyTo(ctx, source.PgConn(), metered, copyOut)
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

// copyTo gives what the source sends to metered, a buffer at a time. Rows are counted where they come: in a session that
// puts several together by itself, or by the driver's calls.
func copyTo(ctx context.Context, source *pgconn.PgConn, metered *meteredWriter, sql string) (pgconn.CommandTag, error) {
	buffer := &countingWriter{Writer: bufio.NewWriterSize(metered, pipeBytes)}
	var out io.Writer = buffer
	metered.rows = buffer.taken
	if merged, ok := source.Conn().(*frames); ok {
		merged.taken()
		metered.rows, out = merged.taken, buffer.Writer
	}
	tag, err := source.CopyTo(ctx, out, sql)
	if err == nil {
		err = buffer.Flush()
	}
	return tag, err
}

// countingWriter counts rows: the driver writes each by itself.
type countingWriter struct {
	*bufio.Writer
	rows int64
}

func (c *countingWriter) Write(data []byte) (int, error) {
	c.rows++
	return c.Writer.Write(data)
}

func (c *countingWriter) taken() int64 {
	rows := c.rows
	c.rows = 0
	return rows
}

// meteredWriter counts what passes, and lets pass what the gate allows, in portions that take a fraction of a second: a
// portion that waited for long would be a burst.
type meteredWriter struct {
	ctx      context.Context // of the one COPY
	to       io.Writer
	gate     throttle.Gate
	rows     func() int64 // read since the last call
	stall    *time.Timer
	stallMax time.Duration
	moved    func(int)
	bytes    int64
	portion  int
}

const (
	portionMin  = 64
	portionFast = 25 * time.Millisecond
	portionSlow = 250 * time.Millisecond
)

func (m *meteredWriter) Write(data []byte) (int, error) {
	if err := failpoint.Hit(failpoint.CopyRows); err != nil {
		return 0, err
	}
	if m.gate == throttle.Open {
		return len(data), m.pass(data)
	}
	rows := m.rows()
	for rest := data; len(rest) > 0; {
		if allowed := int(m.gate.Portion(rows, int64(len(rest)))); allowed < len(rest) {
			m.portion = min(m.portion, allowed)
		}
		n := min(len(rest), m.portion)
		part := rows * int64(n) / int64(len(rest))
		if err := m.wait(part, int64(n)); err != nil {
			return len(data) - len(rest), err
		}
		if err := m.pass(rest[:n]); err != nil {
			return len(data) - len(rest), err
		}
		rows -= part
		rest = rest[n:]
	}
	return len(data), nil
}

// wait asks the gate. Time spent there is no stall.
func (m *meteredWriter) wait(rows, bytes int64) error {
	m.stall.Stop()
	begun := time.Now()
	err := m.gate.Pass(m.ctx, rows, bytes)
	m.stall.Reset(m.stallMax)
	switch waited := time.Since(begun); {
	case waited > portionSlow:
		m.portion = max(m.portion/2, min(m.portion, portionMin))
	case waited < portionFast:
		m.portion = min(m.portion*2, pipeBytes)
	}
	return err
}

func (m *meteredWriter) pass(data []byte) error {
	n, err := m.to.Write(data)
	m.bytes += int64(n)
	m.stall.Reset(m.stallMax)
	m.moved(n)
	return err
}
