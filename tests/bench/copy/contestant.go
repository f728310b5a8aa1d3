package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/tests/bench/arena"
	"github.com/pgdts/pgdts/workflows/migration"
)

// What contestants copy. Times compare only within one of them.
const (
	dataOnly = "data"
	whole    = "whole"
)

// contestant copies a dataset into an empty database of the same name, and says how long that took.
type contestant struct {
	name, kind string
	missing    func(*bench) string // why it cannot take part, or ""
	copy       func(context.Context, *bench, dataset) (time.Duration, error)
}

var contestants = []contestant{
	{"psql", dataOnly, present("psql"), copyByPsql},
	{arena.Ours, dataOnly, nil, copyByPgdts},
	{"pg_dump", whole, present("pg_dump"), cloneByDump},
	{"pgcopydb", whole, present("pgcopydb"), cloneByPgcopydb},
	{arena.Ours, whole, nil, cloneByPgdts},
}

func (c contestant) String() string { return c.kind + "/" + c.name }

func present(program string) func(*bench) string {
	return func(b *bench) string {
		if _, err := exec.LookPath(program); err != nil && !b.Source.Binaries.Has(program) {
			return "skipped: " + program + " is not installed"
		}
		return ""
	}
}

// emptyTables makes the tables without their indexes.
func (b *bench) emptyTables(ctx context.Context, database string) error {
	if err := b.Target.Fresh(ctx, database); err != nil {
		return err
	}
	dump := b.Source.Command(ctx, "pg_dump", "--section=pre-data", "--no-owner", b.Source.URI(database))
	text, err := dump.Output()
	if err != nil {
		return fmt.Errorf("pg_dump of tables: %w", err)
	}
	load := b.Target.Command(ctx, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", b.Target.URI(database))
	load.Stdin = strings.NewReader(string(text))
	load.Stdout = nil
	return arena.Do(load)
}

// copyByPsql runs n pipes. A large table is shared by page ranges, which the server reads as fast as it can.
func copyByPsql(ctx context.Context, b *bench, d dataset) (time.Duration, error) {
	if err := b.emptyTables(ctx, d.name); err != nil {
		return 0, err
	}
	conn, err := pgx.Connect(ctx, b.Source.URI(d.name))
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, "select relname::text, relpages from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 2")
	if err != nil {
		return 0, err
	}
	scripts := make([]string, b.options.n)
	var name string
	var pages int
	_, err = pgx.ForEachRow(rows, []any{&name, &pages}, func() error {
		if !slices.Contains(d.large, name) {
			scripts[0] += b.psqlPipe(d.name, name, name)
			return nil
		}
		for i := range scripts {
			condition := fmt.Sprintf("ctid >= '(%d,0)'", pages*i/len(scripts))
			if i+1 < len(scripts) {
				condition += fmt.Sprintf(" and ctid < '(%d,0)'", pages*(i+1)/len(scripts))
			}
			scripts[i] += b.psqlPipe(d.name, name, "(select * from "+name+" where "+condition+")")
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	var group errgroup.Group
	for _, script := range scripts {
		group.Go(func() error { return arena.Do(b.Source.Command(ctx, "bash", "-euo", "pipefail", "-c", script)) })
	}
	err = group.Wait()
	return time.Since(began), err
}

func (b *bench) psqlPipe(database, table, what string) string {
	psql := "psql"
	if b.Source.Binaries.Has(psql) {
		psql = b.Source.Binaries.Path(psql)
	}
	return fmt.Sprintf("%[1]s -Xqc \"copy %[2]s to stdout with (format binary)\" '%[3]s' | %[1]s -Xqc \"copy %[4]s from stdin with (format binary)\" '%[5]s'\n",
		psql, what, b.Source.URI(database), table, b.Target.URI(database))
}

func cloneByDump(ctx context.Context, b *bench, d dataset) (time.Duration, error) {
	if err := b.Target.Fresh(ctx, d.name); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(b.Dir, "dump-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	jobs, archive := strconv.Itoa(b.options.n), filepath.Join(dir, "archive")
	began := time.Now()
	err = arena.Do(b.Source.Command(ctx, "pg_dump", "-Fd", "-Z0", "-j", jobs, "-f", archive, b.Source.URI(d.name)))
	if err == nil {
		err = arena.Do(b.Source.Command(ctx, "pg_restore", "-j", jobs, "--no-owner", "-d", b.Target.URI(d.name), archive))
	}
	if err == nil {
		err = b.Target.Exec(ctx, d.name, "analyze")
	}
	return time.Since(began), err
}

func cloneByPgcopydb(ctx context.Context, b *bench, d dataset) (time.Duration, error) {
	if err := b.Target.Fresh(ctx, d.name); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(b.Dir, "pgcopydb-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	jobs := strconv.Itoa(b.options.n)
	began := time.Now()
	err = arena.Do(b.Source.Command(ctx, "pgcopydb", "clone", "--source", b.Source.URI(d.name), "--target", b.Target.URI(d.name),
		"--table-jobs", jobs, "--index-jobs", jobs, "--no-owner", "--no-acl", "--dir", dir, "--skip-large-objects",
		"--split-tables-larger-than", "64 MB"))
	return time.Since(began), err
}

// cloneByPgdts is the command as a person types it, start and end of its own Temporal service included.
func cloneByPgdts(ctx context.Context, b *bench, d dataset) (time.Duration, error) {
	if err := b.Target.Fresh(ctx, d.name); err != nil {
		return 0, err
	}
	began := time.Now()
	err := b.pgdts(ctx, d, migration.TypeSchema, migration.TypeFull)
	return time.Since(began), err
}

// copyByPgdts counts from the first chunk that is begun to the last that is committed.
func copyByPgdts(ctx context.Context, b *bench, d dataset) (time.Duration, error) {
	if err := b.emptyTables(ctx, d.name); err != nil {
		return 0, err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var took time.Duration
	var group errgroup.Group
	group.Go(func() (err error) {
		took, err = b.watchChunks(watching, d.name)
		return err
	})
	err := b.pgdts(ctx, d, migration.TypeFull)
	if err != nil {
		stop()
		_ = group.Wait() // only that it was stopped
		return 0, err
	}
	err = group.Wait()
	return took, err
}

// watchChunks looks into the target's ledger.
func (b *bench) watchChunks(ctx context.Context, database string) (time.Duration, error) {
	conn, err := pgx.Connect(ctx, b.Target.URI(database))
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var began time.Time
	for {
		var there, begun, left bool
		err := conn.QueryRow(ctx, "select to_regclass('dts_sync.chunk') is not null").Scan(&there)
		if err == nil && there {
			err = conn.QueryRow(ctx, "select coalesce(bool_or(attempts > 0), false), coalesce(bool_or(state = 'todo'), true) from dts_sync.chunk").Scan(&begun, &left)
		}
		switch {
		case err != nil:
			return 0, err
		case begun && began.IsZero():
			began = time.Now()
		case begun && !left:
			return time.Since(began), nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (b *bench) pgdts(ctx context.Context, d dataset, types ...migration.Type) error {
	dir, err := os.MkdirTemp(b.Dir, "pgdts-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	definition, err := json.Marshal(map[string]any{
		"name":   "bench-" + d.name,
		"source": map[string]any{"uri": b.Source.URI(d.name)},
		"target": map[string]any{"uri": b.Target.URI(d.name)},
		"types":  types, "parallel": map[string]int{"copy": b.options.n, "index": b.options.n},
	})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "definition.json")
	if err := os.WriteFile(file, definition, 0o600); err != nil {
		return err
	}
	program, err := filepath.Abs(b.options.pgdts)
	if err != nil {
		return err
	}
	command := b.Source.Command(ctx, program, "run", "-f", file, "--state-dir", filepath.Join(dir, "state"))
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) } // its children end with it
	command.WaitDelay = 30 * time.Second
	command.Env = append(command.Env, "TEMPORAL_CONFIG_FILE="+os.DevNull)
	return arena.Do(command)
}
