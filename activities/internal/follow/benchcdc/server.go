package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/tests/pgserver"
)

// settings are those of both servers, for every contestant. What a contestant sets for its own sessions is its own merit.
var settings = map[string]string{
	"shared_buffers": "1GB", "max_wal_size": "32GB", "checkpoint_timeout": "1h", "autovacuum": "off", "fsync": "on",
	"max_replication_slots": "60", "max_wal_senders": "60", "max_connections": "200",
}

const major = 15

// server is one side.
type server struct {
	*pgserver.Server
}

func startServer(ctx context.Context) (server, error) {
	started, err := pgserver.Start(ctx, pgserver.Config{Major: major, Settings: settings})
	return server{started}, err
}

func (s server) exec(ctx context.Context, database string, statements ...string) error {
	conn, err := pgx.Connect(ctx, s.URI(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, list := range statements {
		for statement := range strings.SplitSeq(list, ";") {
			if _, err := conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("%.60s: %w", strings.TrimSpace(statement), err)
			}
		}
	}
	return nil
}

func (s server) text(ctx context.Context, database, sql string) (text string, err error) {
	conn, err := pgx.Connect(ctx, s.URI(database))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = conn.QueryRow(ctx, sql).Scan(&text)
	return text, err
}

// fresh makes an empty database.
func (s server) fresh(ctx context.Context, database string) error {
	if err := s.exec(ctx, "postgres", fmt.Sprintf("drop database if exists %s with (force)", database)); err != nil {
		return err
	}
	return s.CreateDatabase(ctx, database)
}

// release drops the slots of a database, which keep the log.
func (s server) release(ctx context.Context, database string) error {
	const sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database() and not active"
	return s.exec(ctx, database, sql)
}

// command is a program of the servers' version, with an environment in which no other server is named.
func (s server) command(ctx context.Context, program string, arguments ...string) *exec.Cmd {
	if s.Binaries.Has(program) {
		program = s.Binaries.Path(program)
	}
	command := exec.CommandContext(ctx, program, arguments...)
	command.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "PG") })
	return command
}

// do runs a program to its end; what it said last is in the error.
func do(command *exec.Cmd) error {
	out, err := command.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		err = fmt.Errorf("%s: %w: %s", command.Args[0], err, strings.Join(lines[max(0, len(lines)-5):], "; "))
	}
	return err
}

const arrivedEvery = 10 * time.Millisecond

// arrived waits until the last transaction of a backlog can be seen.
func (s server) arrived(ctx context.Context, database string) error {
	conn, err := pgx.Connect(ctx, s.URI(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for there := false; !there; {
		if err := conn.QueryRow(ctx, "select exists (select from bench_end)").Scan(&there); err != nil {
			return err
		}
		if there {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(arrivedEvery):
		}
	}
	return nil
}

// readHashes gives a statement for each table of a user: its rows and the sum of their hashes.
const readHashes = `
select format('select %L || count(*) || '' '' || coalesce(sum(hashtextextended((t.*)::text, 0)), 0) from %I.%I t', n.nspname || '.' || c.relname || ' ', n.nspname, c.relname)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync', 'pgcopydb') order by 1`

// contents describes all tables of a database.
func (s server) contents(ctx context.Context, database string) (string, error) {
	conn, err := pgx.Connect(ctx, s.URI(database))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, readHashes)
	if err != nil {
		return "", err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && len(statements) == 0 {
		err = errors.New("no tables in " + database)
	}
	if err != nil {
		return "", err
	}
	rows, err = conn.Query(ctx, strings.Join(statements, " union all "))
	if err != nil {
		return "", err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(tables, "\n"), err
}
