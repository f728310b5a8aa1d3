package pg

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Fault classifies an error of this server. A fault that was classified before, and a cancellation, pass unchanged.
func (s *Server) Fault(op, object string, err error) error { return Fault(s.Side, op, object, err) }

// Fault classifies an error of a server by SQLSTATE and type, never by its text. nil stays nil.
func Fault(side migration.Side, op, object string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if _, ok := migration.AsFault(err); ok {
		return err
	}
	fault := migration.NewFault(kindOf(err), op, object, err, "")
	fault.Side = side
	fault.Op = strings.TrimSpace(string(side) + " " + op)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		fault.SQLState = pgErr.Code
		fault.Message = withoutValues(pgErr) // and without Detail, which carries values too
		if fault.Object == "" {
			fault.Object = objectOf(pgErr)
		}
		if pgErr.Hint != "" {
			fault.Hint = pgErr.Hint
		}
	}
	return fault
}

// withoutValues is the server's sentence. Errors about data (class 22) quote the value that they refuse.
func withoutValues(e *pgconn.PgError) string {
	first, last := strings.IndexByte(e.Message, '"'), strings.LastIndexByte(e.Message, '"')
	if !strings.HasPrefix(e.Code, "22") || first == last {
		return e.Message
	}
	return e.Message[:first] + `"…"` + e.Message[last+1:]
}

func objectOf(e *pgconn.PgError) string {
	name := e.TableName
	if e.ConstraintName != "" {
		name = strings.TrimPrefix(name+" "+e.ConstraintName, " ")
	}
	return name
}

func kindOf(err error) migration.FaultKind {
	var pgErr *pgconn.PgError
	var connectErr *pgconn.ConnectError
	connecting := errors.As(err, &connectErr)
	var missing *lack
	if errors.As(err, &missing) {
		return migration.FaultUnauthorized
	}
	if errors.As(err, &pgErr) {
		return kindOfState(pgErr.Code, connecting)
	}
	var netErr net.Error
	switch {
	case connecting, errors.As(err, &netErr), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, context.DeadlineExceeded), errors.Is(err, pgconn.ErrConnClosed), ofSession(err):
		return migration.FaultConnection
	}
	return migration.FaultOther
}

// ofSession knows the driver's own errors about a session, which have no exported type: all of them, and they alone, say
// whether a statement may be sent again. Whatever they say, the session is of no more use.
func ofSession(err error) bool {
	var driver interface{ SafeToRetry() bool }
	return errors.As(err, &driver)
}

func kindOfState(code string, connecting bool) migration.FaultKind {
	switch {
	case strings.HasPrefix(code, "08"), // connection exception
		code == "57P01", code == "57P02", code == "57P03", code == "57P05", // shut down, crash, starting up, idle time-out
		code == "53300", // too many connections
		code == "25P03", code == "25P04":
		return migration.FaultConnection
	case strings.HasPrefix(code, "28"), code == "3D000",
		code == "57P04",               // the database was dropped
		code == "55000" && connecting: // the database takes no connections
		return migration.FaultUnauthorized
	case code == "42501":
		return migration.FaultPrivilege
	}
	return migration.FaultOther
}

// SQLState is the state code of a server's error anywhere in the chain, or "".
func SQLState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	if fault, ok := migration.AsFault(err); ok {
		return fault.SQLState
	}
	return ""
}
