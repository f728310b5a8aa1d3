package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// errEnded is a source that shuts down in order.
var errEnded = fmt.Errorf("the source ended the stream: %w", io.EOF)

// read decodes into the queue until the connection ends or ctx does.
func (s *Session) read(ctx context.Context) error {
	if err := s.catchUp(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	sender := s.pulse.walsender()
	decoder := wal.NewDecoder(s.config.BudgetBytes / parts)
	for {
		// A context here would cost a goroutine for each message; Close ends the wait by a deadline.
		message, err := sender.ReceiveMessage(context.Background())
		if ctx.Err() != nil {
			return nil //nolint:nilerr // Close ended the wait by a deadline
		}
		if err != nil {
			return err
		}
		switch message := message.(type) {
		case *pgproto3.CopyData:
			err = s.accept(ctx, decoder, message.Data)
		case *pgproto3.ErrorResponse:
			err = pgconn.ErrorResponseToPgError(message)
		case *pgproto3.CopyDone, *pgproto3.CommandComplete:
			err = errEnded
		}
		if err != nil {
			return err
		}
	}
}

const (
	keepaliveLength = 17
	walHeader       = 24
)

// accept takes one message of the replication protocol. Of the header of WAL data only the place is used; the server's
// idea of its own end there is older than that of its keepalives.
func (s *Session) accept(ctx context.Context, decoder *wal.Decoder, data []byte) error {
	switch {
	case len(data) > keepaliveLength && data[0] == pglogrepl.PrimaryKeepaliveMessageByteID:
		s.keepalive(decoder, data[1:])
		return nil
	case len(data) > walHeader && data[0] == pglogrepl.XLogDataByteID:
		raise(&s.sourceEnd, binary.BigEndian.Uint64(data[9:]))
		raise(&s.pulse.received, binary.BigEndian.Uint64(data[1:]))
		tx, err := s.decode(decoder, data[1+walHeader:])
		if err != nil || tx == nil {
			return err
		}
		return s.queue.push(ctx, *tx)
	}
	return migration.NewFault(migration.FaultBug, "read changes from slot", s.config.Slot,
		errors.New("a message that is not of the replication protocol"), "")
}

// decode returns the transaction that the message ends, if it ends one.
func (s *Session) decode(decoder *wal.Decoder, message []byte) (*wal.Transaction, error) {
	tx, err := decoder.Decode(message)
	if err != nil {
		return nil, migration.NewFault(migration.FaultBug, "read changes from slot", s.config.Slot, err, "")
	}
	return tx, nil
}

// keepalive carries the position up to which the server has decoded. With no transaction open, nothing that commits
// before it is still to come (I3).
func (s *Session) keepalive(decoder *wal.Decoder, data []byte) {
	end := binary.BigEndian.Uint64(data)
	raise(&s.sourceEnd, end)
	raise(&s.pulse.received, end)
	asked := data[16] == 1
	if !decoder.Open() && end > 0 {
		s.queue.pass(migration.LSN(end), asked)
	}
	if asked {
		signal(s.pulse.urgent)
	}
}
