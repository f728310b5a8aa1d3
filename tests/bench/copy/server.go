package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/tests/pgserver"
)

// settings are those of both servers, for every contestant. What a contestant sets for its own sessions is its own merit.
var settings = map[string]string{
	"shared_buffers": "1GB", "max_wal_size": "32GB", "checkpoint_timeout": "1h", "maintenance_work_mem": "256MB",
	"autovacuum": "off", "max_parallel_maintenance_workers": "2", "wal_compression": "off",
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

func (s server) exec(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, s.URI(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	return err
}

// fresh makes an empty database.
func (s server) fresh(ctx context.Context, database string) error {
	if err := s.exec(ctx, "postgres", fmt.Sprintf("drop database if exists %s with (force)", database)); err != nil {
		return err
	}
	return s.CreateDatabase(ctx, database)
}

// settle leaves nothing of the filling to be done while somebody is measured.
func (s server) settle(ctx context.Context, database string) error {
	if err := s.exec(ctx, database, "vacuum (analyze)"); err != nil {
		return err
	}
	return s.exec(ctx, "postgres", "checkpoint")
}

// command is a program of the servers' version, with an environment in which no other server is named.
func (s server) command(ctx context.Context, program string, arguments ...string) *exec.Cmd {
	if path := s.Binaries.Path(program); s.Binaries.Has(program) {
		program = path
	}
	command := exec.CommandContext(ctx, program, arguments...)
	command.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PG") || strings.HasPrefix(variable, "TEMPORAL_")
	})
	return command
}

// do runs a program to its end; what it said is in the error.
func do(command *exec.Cmd) error {
	out, err := command.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		err = fmt.Errorf("%s: %w: %s", command.Args[0], err, strings.Join(lines[max(0, len(lines)-5):], "; "))
	}
	return err
}

// readHashes gives a statement for each table of a user: its rows and the sum of their hashes.
const readHashes = `
select format('select %L || count(*) || '' '' || coalesce(sum(hashtextextended((t.*)::text, 0)), 0) from %I.%I t', n.nspname || '.' || c.relname || ' ', n.nspname, c.relname)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync') order by 1`

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
	if err != nil || len(statements) == 0 {
		return "", errors.Join(err)
	}
	rows, err = conn.Query(ctx, strings.Join(statements, " union all "))
	if err != nil {
		return "", err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(tables, "\n"), err
}

// readObjects lists what a whole clone must have besides rows.
const readObjects = `
select coalesce(string_agg(o, e'\n' order by o), '') from (
    select pg_get_indexdef(indexrelid) as o from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname not in ('pg_catalog', 'pg_toast', 'information_schema', 'dts_sync') and i.indisvalid
    union all
    select conname || ' ' || pg_get_constraintdef(k.oid) || ' ' || convalidated from pg_constraint k join pg_namespace n on n.oid = k.connamespace
    where n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync')
    union all
    select n.nspname || '.' || relname || ' has statistics' from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where relkind = 'r' and reltuples > 0 and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync')) x`

func (s server) objects(ctx context.Context, database string) (objects string, err error) {
	conn, err := pgx.Connect(ctx, s.URI(database))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = conn.QueryRow(ctx, readObjects).Scan(&objects)
	return objects, err
}
