package arena

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

// Server is one side.
type Server struct {
	*pgserver.Server
}

// Exec runs statements one by one, without a transaction around them.
func (s Server) Exec(ctx context.Context, database string, statements ...string) error {
	conn, err := pgx.Connect(ctx, s.URI(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("%.60s: %w", strings.TrimSpace(statement), err)
		}
	}
	return nil
}

// Text is the one value that a query gives.
func (s Server) Text(ctx context.Context, database, sql string) (text string, err error) {
	conn, err := pgx.Connect(ctx, s.URI(database))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = conn.QueryRow(ctx, sql).Scan(&text)
	return text, err
}

// Fresh makes an empty database, in place of one that has the name.
func (s Server) Fresh(ctx context.Context, database string) error {
	if err := s.Exec(ctx, "postgres", fmt.Sprintf("drop database if exists %s with (force)", database)); err != nil {
		return err
	}
	return s.CreateDatabase(ctx, database)
}

// Command is a program of the servers' version, with an environment in which no other server is named.
func (s Server) Command(ctx context.Context, program string, arguments ...string) *exec.Cmd {
	if s.Binaries.Has(program) {
		program = s.Binaries.Path(program)
	}
	command := exec.CommandContext(ctx, program, arguments...)
	command.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PG") || strings.HasPrefix(variable, "TEMPORAL_")
	})
	return command
}

// Do runs a program to its end; what it said last is in the error.
func Do(command *exec.Cmd) error {
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
where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync', 'pgcopydb') order by 1`

// Contents describes all tables of a database.
func (s Server) Contents(ctx context.Context, database string) (string, error) {
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
	rows, err = conn.Query(ctx, strings.Join(statements, " union all ")+" order by 1")
	if err != nil {
		return "", err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(tables, "\n"), err
}
