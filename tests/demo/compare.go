package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// comparison is what two databases have in common and where they differ, found with SQL that pgdts has no part in.
type comparison struct {
	tables, sequences, objects int
	rows                       int64
	took                       time.Duration
	differences                []string
}

// side is what one database holds, each by its name: the tables' content and the sequences' state.
type side struct {
	tables, sequences map[string]string
	rows              int64
}

// compare reads both databases at once. Nobody may write to them meanwhile.
func compare(ctx context.Context, pgDump, source, target string) (comparison, error) {
	began := time.Now()
	var sides [2]side
	var definitions [2]map[string]string
	group, ctx := errgroup.WithContext(ctx)
	for i, uri := range []string{source, target} {
		group.Go(func() (err error) {
			sides[i], err = read(ctx, uri)
			return err
		})
		group.Go(func() (err error) {
			definitions[i], err = objects(ctx, pgDump, uri)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return comparison{}, err
	}
	left, right := sides[0], sides[1]
	c := comparison{
		tables: len(left.tables), sequences: len(left.sequences), objects: len(definitions[0]), rows: left.rows,
		took: time.Since(began),
	}
	c.differences = slices.Concat(
		differences("table", left.tables, right.tables),
		differences("sequence", left.sequences, right.sequences),
		differences("definition", definitions[0], definitions[1]),
	)
	return c, nil
}

// differences names what one side lacks and what is not the same on both.
func differences(kind string, source, target map[string]string) []string {
	var all []string
	names := maps.Clone(source)
	maps.Copy(names, target)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		left, onSource := source[name]
		right, onTarget := target[name]
		switch {
		case !onTarget:
			all = append(all, fmt.Sprintf("%s %s: only on the source", kind, name))
		case !onSource:
			all = append(all, fmt.Sprintf("%s %s: only on the target", kind, name))
		case left != right && kind == "definition":
			all = append(all, fmt.Sprintf("%s of %s\n      source: %s\n      target: %s", kind, name, left, right))
		case left != right:
			all = append(all, fmt.Sprintf("%s %s: %s on the source, %s on the target", kind, name, left, right))
		}
	}
	return all
}

// canonical makes every server print a value in the same way.
const canonical = `
set datestyle = 'ISO, YMD'; set timezone = 'UTC'; set intervalstyle = 'postgres'; set bytea_output = 'hex';
set extra_float_digits = 3; set search_path = 'pg_catalog'; set row_security = off`

// read takes everything from one snapshot.
func read(ctx context.Context, uri string) (side, error) {
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		return side{}, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, canonical+"; begin isolation level repeatable read read only"); err != nil {
		return side{}, err
	}
	s := side{tables: map[string]string{}, sequences: map[string]string{}}
	if err := s.readTables(ctx, conn); err != nil {
		return s, err
	}
	return s, s.readSequences(ctx, conn)
}

const (
	// tablesSQL lists what holds rows; schema dts_sync is the migration's own.
	tablesSQL = `
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync')
order by 1, 2`
	// contentSQL adds up the hashes of the rows: the order does not matter, and every value does. It is t.* because a
	// column may be called t.
	contentSQL = `select count(*), coalesce(sum(('x' || substr(md5((t.*)::text), 1, 16))::bit(64)::bigint::numeric), 0)::text from only %s t`
	// sequencesSQL lists sequences, those of identities and serials among them.
	sequencesSQL = `
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'S' and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'dts_sync') order by 1, 2`
	stateSQL = `select last_value::text || case when is_called then ', given' else ', not given yet' end from %s`
)

func (s *side) readTables(ctx context.Context, conn *pgx.Conn) error {
	names, err := relations(ctx, conn, tablesSQL)
	if err != nil {
		return err
	}
	for _, name := range names {
		var rows int64
		var hash string
		if err := conn.QueryRow(ctx, fmt.Sprintf(contentSQL, name.Sanitize())).Scan(&rows, &hash); err != nil {
			return fmt.Errorf("read %s: %w", name.Sanitize(), err)
		}
		s.tables[plain(name)] = fmt.Sprintf("%s rows (hash %s)", count(rows), hash)
		s.rows += rows
	}
	return nil
}

func (s *side) readSequences(ctx context.Context, conn *pgx.Conn) error {
	names, err := relations(ctx, conn, sequencesSQL)
	if err != nil {
		return err
	}
	for _, name := range names {
		var state string
		if err := conn.QueryRow(ctx, fmt.Sprintf(stateSQL, name.Sanitize())).Scan(&state); err != nil {
			return fmt.Errorf("read %s: %w", name.Sanitize(), err)
		}
		s.sequences[plain(name)] = state
	}
	return nil
}

func relations(ctx context.Context, conn *pgx.Conn, sql string) ([]pgx.Identifier, error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (pgx.Identifier, error) {
		name := make(pgx.Identifier, 2)
		return name, row.Scan(&name[0], &name[1])
	})
}

func plain(name pgx.Identifier) string { return name[0] + "." + name[1] }
