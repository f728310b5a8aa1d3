package pgtest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/tests/pgserver"
)

// waitMax is how long WaitUntil waits.
const waitMax = 30 * time.Second

// DB is a database that belongs to one test. Its methods may be called concurrently; those that
// take a t fail that test on any error.
type DB struct {
	// URI connects as the superuser.
	URI string
	// Name is unique on the server.
	Name string
	// Server is where the database is.
	Server *pgserver.Server
}

var databases atomic.Int64

// Database makes an empty database. At the end of the test it is dropped with its replication slots
// and sessions, if the server still runs.
func Database(t testing.TB, server *pgserver.Server) *DB {
	t.Helper()
	name := fmt.Sprintf("%s_%d_%d", label(t.Name()), os.Getpid(), databases.Add(1))
	if err := server.CreateDatabase(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	db := &DB{URI: server.URI(name), Name: name, Server: server}
	t.Cleanup(func() {
		// The test's context has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), waitMax)
		defer cancel()
		if err := db.drop(ctx); err != nil {
			t.Errorf("drop database %s: %v", name, err)
		}
	})
	return db
}

// label makes a short identifier of a test's name, so that the server's log tells whose session it was.
func label(test string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	return name[:min(len(name), 40)]
}

// Conn opens a session that the end of the test closes.
func (db *DB) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URI)
	if err != nil {
		t.Fatalf("connect to %s: %v", db.Name, err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Exec runs statements in a session of their own; without arguments there may be several, separated
// by semicolons, in one transaction.
func (db *DB) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	err := db.session(t.Context(), func(conn *pgx.Conn) error {
		_, err := conn.Exec(t.Context(), sql, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Query returns the rows with every value as the server prints it, and null as the text NULL.
func (db *DB) Query(t testing.TB, sql string, args ...any) [][]string {
	t.Helper()
	var rows [][]string
	err := db.session(t.Context(), func(conn *pgx.Conn) (err error) {
		rows, err = texts(t.Context(), conn, sql, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// texts asks for the text format, in which the server prints each value itself.
func texts(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([][]string, error) {
	args = append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]string, error) {
		var values []string
		for _, raw := range row.RawValues() {
			if raw == nil {
				values = append(values, "NULL")
				continue
			}
			values = append(values, string(raw))
		}
		return values, nil
	})
}

// Value returns the one value of a query that gives one row of one column.
func Value[T any](t testing.TB, db *DB, sql string, args ...any) T {
	t.Helper()
	var value T
	err := db.session(t.Context(), func(conn *pgx.Conn) error {
		return conn.QueryRow(t.Context(), sql, args...).Scan(&value)
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// WaitUntil asks a query of one boolean again and again until it is true. Errors count as false, since
// the server may be on its way up; the last one is shown when the time is over.
func (db *DB) WaitUntil(t testing.TB, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	var last error
	for ctx.Err() == nil {
		last = db.session(ctx, func(conn *pgx.Conn) error { return await(ctx, conn, sql) })
		if last == nil {
			return
		}
		pause(ctx)
	}
	t.Fatalf("still not true after %s: %s (%v)", waitMax, sql, last)
}

func await(ctx context.Context, conn *pgx.Conn, sql string) error {
	for {
		// Null is what aggregates over nothing give: not yet.
		var reached *bool
		if err := conn.QueryRow(ctx, sql).Scan(&reached); err != nil {
			return err
		}
		if reached != nil && *reached {
			return nil
		}
		pause(ctx)
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

func (db *DB) session(ctx context.Context, work func(*pgx.Conn) error) error {
	return session(ctx, db.URI, work)
}

func session(ctx context.Context, uri string, work func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return work(conn)
}
