package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/tests/load"
	"github.com/pgdts/pgdts/tests/pgserver"
)

// Where things are in the repository, which is the working directory.
const (
	pgdtsBinary    = "bin/pgdts"
	temporalBinary = "bin/temporal"
	fixtures       = "tests/fixtures"
)

// database is the name of the database on both servers.
const database = "shop"

//go:embed calendar.sql
var calendar string

// stage is what stands before the migration begins: two servers, and a directory for the files.
type stage struct {
	source, target *pgserver.Server
	dir            string
}

// raise starts both servers, each with an empty database.
func raise(ctx context.Context) (*stage, error) {
	dir, err := os.MkdirTemp("", "pgdts-demo-")
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir}
	group, ctx := errgroup.WithContext(ctx)
	for _, server := range []**pgserver.Server{&s.source, &s.target} {
		group.Go(func() (err error) {
			*server, err = start(ctx)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, s.strike())
	}
	return s, nil
}

// start gives a server that a person would trust with data: nothing that makes it durable is switched off.
func start(ctx context.Context) (*pgserver.Server, error) {
	server, err := pgserver.Start(ctx, pgserver.Config{Settings: map[string]string{
		"fsync": "on", "max_wal_size": "2GB", "shared_buffers": "256MB",
	}})
	if err != nil {
		return nil, err
	}
	if err := server.CreateDatabase(ctx, database); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	return server, nil
}

// strike stops the servers, whose directories go with them. The demo's own files stay for who wants to read them.
func (s *stage) strike() error {
	var all error
	for _, server := range []*pgserver.Server{s.source, s.target} {
		if server != nil {
			all = errors.Join(all, server.Close())
		}
	}
	return all
}

// fill creates the shop, its calendar, the tables of the load writers and those of pgbench on the source.
func (s *stage) fill(ctx context.Context, scale int) error {
	group, ctx := errgroup.WithContext(ctx)
	uri := s.source.URI(database)
	group.Go(func() error {
		// Steps d, t, g, v, p, f: with foreign keys.
		return s.tool(ctx, "pgbench", "-i", "-q", "-I", "dtgvpf", "-s", strconv.Itoa(scale), uri)
	})
	group.Go(func() error {
		for _, file := range []string{"shop.sql", "shop_data.sql"} {
			if err := s.tool(ctx, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", filepath.Join(fixtures, file), uri); err != nil {
				return err
			}
		}
		if err := execute(ctx, uri, calendar); err != nil {
			return fmt.Errorf("create calendar: %w", err)
		}
		if err := execute(ctx, uri, load.Schema); err != nil {
			return fmt.Errorf("create load tables: %w", err)
		}
		return nil
	})
	return group.Wait()
}

// tool runs a client program of the source's installation.
func (s *stage) tool(ctx context.Context, program string, arguments ...string) error {
	out, err := apart(exec.CommandContext(ctx, s.source.Binaries.Path(program), arguments...)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func execute(ctx context.Context, uri, sql string) error {
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

const volume = `
select count(*), coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::bigint
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'dts_sync')`

// describe tells how much there is to move.
func (s *stage) describe(ctx context.Context) (tables int, bytes int64, err error) {
	conn, err := pgx.Connect(ctx, s.source.URI(database))
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = conn.QueryRow(ctx, volume).Scan(&tables, &bytes)
	return tables, bytes, err
}

// definition has every key that is not left to its default. Carts are unlogged, which the precheck is right to point at:
// what changes in them is in no log.
const definition = `name: shop
source: {uri: %q}
target: {uri: %q}
precheck: {ignore: [UNLOGGED_TABLES]}
`

func (s *stage) define() (string, error) {
	path := filepath.Join(s.dir, "migration.yaml")
	return path, os.WriteFile(path, fmt.Appendf(nil, definition, s.source.URI(database), s.target.URI(database)), 0o600)
}

// version is that of a server, such as 15.14.
func version(ctx context.Context, server *pgserver.Server) string {
	conn, err := pgx.Connect(ctx, server.URI(database))
	if err != nil {
		return strconv.Itoa(server.Binaries.Major)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	reported, _, _ := strings.Cut(conn.PgConn().ParameterStatus("server_version"), " ")
	return reported
}

// raised tells what stands.
func (d *demo) raised(ctx context.Context, began time.Time) error {
	tables, bytes, err := d.stage.describe(ctx)
	if err != nil {
		return err
	}
	d.page.fact("source", "PostgreSQL %s on 127.0.0.1:%d, fsync on", version(ctx, d.stage.source), d.stage.source.Port())
	d.page.fact("target", "PostgreSQL %s on 127.0.0.1:%d, fsync on, empty", version(ctx, d.stage.target), d.stage.target.Port())
	d.page.fact("data", "%s tables, %s: a shop, its calendar, pgbench at scale %d, tables for odd writes", count(tables), size(bytes), d.scale)
	d.page.fact("files", "%s", d.stage.dir)
	d.page.fact("ready in", "%s", span(time.Since(began)))
	return nil
}
