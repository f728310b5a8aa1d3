package pg_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// The kind decides for how long the migration goes on trying: a wrong one ends it too early or keeps it waiting for a
// repair that nobody will make.
func TestKindOfServerErrors(t *testing.T) {
	t.Parallel()
	for code, kind := range map[string]migration.FaultKind{
		"08006": migration.FaultConnection,
		"57P01": migration.FaultConnection,
		"57P02": migration.FaultConnection,
		"57P03": migration.FaultConnection,
		"57P05": migration.FaultConnection,
		"53300": migration.FaultConnection,
		"25P03": migration.FaultConnection,
		"28P01": migration.FaultUnauthorized,
		"28000": migration.FaultUnauthorized,
		"3D000": migration.FaultUnauthorized,
		"57P04": migration.FaultUnauthorized,
		"42501": migration.FaultPrivilege,
		"42P01": migration.FaultOther,
		"40P01": migration.FaultOther,
		"53100": migration.FaultOther,
		"55000": migration.FaultOther,
		"57014": migration.FaultOther,
		"XX000": migration.FaultOther,
	} {
		err := fmt.Errorf("copy chunk 3 of a.b: %w", &pgconn.PgError{Code: code, Message: "said"})
		fault, ok := migration.AsFault(pg.Fault(migration.Target, "copy", "a.b", err))
		if !ok || fault.Kind != kind || fault.SQLState != code || fault.Side != migration.Target {
			t.Errorf("%s: %+v, not %s", code, fault, kind)
		}
	}
}

func TestKindOfLostConnections(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.DeadlineExceeded, &net.OpError{Op: "read", Err: errors.New("reset")},
		&net.DNSError{Name: "a"}, pgconn.ErrConnClosed,
	} {
		fault, ok := migration.AsFault(pg.Fault(migration.Source, "read", "", fmt.Errorf("receive: %w", err)))
		if !ok || fault.Kind != migration.FaultConnection {
			t.Errorf("%v: %+v", err, fault)
		}
	}
	if fault, _ := migration.AsFault(pg.Fault(migration.Source, "read", "", errors.New("what"))); fault.Kind != migration.FaultOther {
		t.Errorf("an error that nobody knows is %s", fault.Kind)
	}
}

func TestFaultLeavesAlone(t *testing.T) {
	t.Parallel()
	if err := pg.Fault(migration.Source, "read", "", nil); err != nil {
		t.Error("nil became an error")
	}
	cancelled := fmt.Errorf("read: %w", context.Canceled)
	if err := pg.Fault(migration.Source, "read", "", cancelled); !errors.Is(err, cancelled) {
		t.Errorf("a cancellation became %v", err)
	}
	born := migration.Faultf(migration.FaultSlotLost, "read", "slot", "gone")
	fault, _ := migration.AsFault(pg.Fault(migration.Source, "stream", "", fmt.Errorf("stream: %w", born)))
	if fault != born {
		t.Errorf("a fault that knew its kind became %+v", fault)
	}
}

// Faults go to logs, to the history of the workflow and to the screen.
func TestFaultHoldsNoValues(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	db.Exec(t, `create table a (id int primary key, email text unique, n int check (n < 10))`)
	conn := db.Conn(t)
	for sql, object := range map[string]string{
		`insert into a values (1, 'secret@example.com', 1), (2, 'secret@example.com', 1)`: "a a_email_key",
		`insert into a values (1, 'secret', 99)`:                                          "a a_n_check",
		`select 'secret "value"'::int`:                                                    "",
		`select '{"secret": }'::json`:                                                     "",
		`select 'secret'::timestamptz`:                                                    "",
		`select to_date('secret', 'YYYY')`:                                                "",
		`insert into a values (1, null, 'secret')`:                                        "",
	} {
		_, err := conn.Exec(t.Context(), sql)
		fault, ok := migration.AsFault(pg.Fault(migration.Target, "apply", "", err))
		if !ok {
			t.Fatalf("%s: %v", sql, err)
		}
		if fault.Object != object {
			t.Errorf("%s: object %q", sql, fault.Object)
		}
		if text := fault.Error(); strings.Contains(text, "secret") || !strings.HasPrefix(text, "target apply") {
			t.Errorf("%s: %s", sql, text)
		}
	}
}

func TestServerEndsSession(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	s := server(t, migration.Source, migration.Endpoint{URI: db.URI})
	conn, err := s.Connect(t.Context(), "pgdts/x/victim/1")
	if err != nil {
		t.Fatal(err)
	}
	ended, err := pg.Terminate(t.Context(), db.Conn(t), "pgdts/x/victim/")
	if err != nil || ended != 1 {
		t.Fatalf("ended %d sessions: %v", ended, err)
	}
	_, err = conn.Exec(t.Context(), "select 1")
	mustBe(t, s.Fault("read", "", err), migration.FaultConnection)
	_, err = conn.Exec(t.Context(), "select 1")
	mustBe(t, s.Fault("read", "", err), migration.FaultConnection) // the driver's own error about a closed session
}

// mustBe returns a value: a pointer would be an error that the caller forgot to look at.
func mustBe(t *testing.T, err error, kind migration.FaultKind) migration.Fault {
	t.Helper()
	fault, ok := migration.AsFault(err)
	if !ok || fault.Kind != kind {
		t.Fatalf("%v is not %s: %+v", err, kind, fault)
	}
	return *fault
}

func TestStatementOutOfTimeIsConnection(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	s := server(t, migration.Source, migration.Endpoint{URI: db.URI})
	conn, err := s.Connect(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = conn.Exec(ctx, "select pg_sleep(60)")
	mustBe(t, s.Fault("read", "", err), migration.FaultConnection)
}
