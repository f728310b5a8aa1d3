package pgtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// rowsShown is how many differing rows of a table are shown for each side.
const rowsShown = 5

// userTables lists the tables that hold rows, as schema and name. Partitioned tables hold none, and the
// schema dts_sync is the migration's own.
const userTables = `
select n.nspname, c.relname
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't'
  and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync')
order by 1, 2`

// canonical makes every server print a value in the same way.
const canonical = `
set datestyle = 'ISO, YMD';
set timezone = 'UTC';
set intervalstyle = 'postgres';
set extra_float_digits = %d;
set bytea_output = 'hex';
set xmloption = 'content';
set search_path = 'pg_catalog'`

// Digits of floating-point values: all of them, or those that PostgreSQL prints alike before and
// since version 12, which prints the shortest text that is exact.
const (
	digitsExact  = 3
	digitsCommon = 0
	shortestFrom = 12
)

// hashOf counts a table and adds up the hashes of its rows, which does not depend on their order. It
// is md5 because PostgreSQL 10 has no hashtextextended, of the same encoding on both sides, and t.* because a column may be
// called t.
const hashOf = `
select count(*),
       coalesce(sum(('x' || substr(md5(convert_to((t.*)::text, 'UTF8')), 1, 16))::bit(64)::bigint::numeric), 0)
from only %s t`

// rowsOf gives the rows themselves; which of them one side lacks is found here, since the two
// servers do not know each other.
const rowsOf = `select (t.*)::text from only %s t`

// Hashes returns for each user table, by its quoted name, the number of rows and a hash that does not
// depend on their order. Databases whose hashes are equal hold the same values. The hashes of versions
// before 12 and since compare only where no floating-point values are: MustEqual knows how.
func Hashes(t testing.TB, db *DB) map[string]string {
	t.Helper()
	return hashesOf(t, db, digitsExact)
}

func hashesOf(t testing.TB, db *DB, digits int) map[string]string {
	t.Helper()
	hashes := map[string]string{}
	err := db.snapshot(t.Context(), digits, func(conn *pgx.Conn) error {
		tables, err := texts(t.Context(), conn, userTables)
		if err != nil {
			return err
		}
		for _, row := range tables {
			name := pgx.Identifier(row).Sanitize()
			hash, err := texts(t.Context(), conn, fmt.Sprintf(hashOf, name))
			if err != nil {
				return fmt.Errorf("hash %s: %w", name, err)
			}
			hashes[name] = hash[0][0] + " rows, hash " + hash[0][1]
		}
		return nil
	})
	if err != nil {
		t.Fatalf("hash tables of %s: %v", db.Name, err)
	}
	return hashes
}

// snapshot runs work in one read-only snapshot, so that the tables belong together.
func (db *DB) snapshot(ctx context.Context, digits int, work func(*pgx.Conn) error) error {
	return db.session(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, fmt.Sprintf(canonical, digits)); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "begin isolation level repeatable read read only"); err != nil {
			return err
		}
		return work(conn)
	})
}

// MustEqual fails the test unless both databases have the same tables with the same rows. It shows
// a few rows of each table that differs. Excepted tables are given as schema.table, unquoted.
func MustEqual(t testing.TB, source, target *DB, exceptTables ...string) {
	t.Helper()
	if report := diff(t, source, target, exceptTables); report != "" {
		t.Fatalf("%s and %s differ:\n%s", source.Name, target.Name, report)
	}
}

func diff(t testing.TB, source, target *DB, except []string) string {
	t.Helper()
	digits := commonDigits(source, target)
	left, right := hashesOf(t, source, digits), hashesOf(t, target, digits)
	for _, table := range except {
		name := pgx.Identifier(strings.SplitN(table, ".", 2)).Sanitize()
		delete(left, name)
		delete(right, name)
	}
	names := map[string]bool{}
	for name := range left {
		names[name] = true
	}
	for name := range right {
		names[name] = true
	}
	var report strings.Builder
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if left[name] != right[name] {
			report.WriteString(diffTable(t, source, target, name, left[name], right[name], digits))
		}
	}
	return report.String()
}

func commonDigits(source, target *DB) int {
	if (source.Server.Binaries.Major < shortestFrom) != (target.Server.Binaries.Major < shortestFrom) {
		return digitsCommon
	}
	return digitsExact
}

func diffTable(t testing.TB, source, target *DB, name, left, right string, digits int) string {
	t.Helper()
	switch {
	case left == "":
		return fmt.Sprintf("%s: only in target: %s\n", name, right)
	case right == "":
		return fmt.Sprintf("%s: only in source: %s\n", name, left)
	}
	ours, theirs := source.rows(t, name, digits), target.rows(t, name, digits)
	return fmt.Sprintf("%s: source has %s; target has %s\n%s%s", name, left, right,
		excess("source", ours, theirs), excess("target", theirs, ours))
}

// rows counts the rows of a table by their text.
func (db *DB) rows(t testing.TB, table string, digits int) map[string]int {
	t.Helper()
	rows := map[string]int{}
	err := db.snapshot(t.Context(), digits, func(conn *pgx.Conn) error {
		all, err := texts(t.Context(), conn, fmt.Sprintf(rowsOf, table))
		for _, row := range all {
			rows[row[0]]++
		}
		return err
	})
	if err != nil {
		t.Fatalf("read rows of %s: %v", table, err)
	}
	return rows
}

// excess lists the first rows that one side has more often than the other.
func excess(side string, rows, other map[string]int) string {
	var report strings.Builder
	shown := 0
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		more := rows[row] - other[row]
		if more <= 0 {
			continue
		}
		if shown++; shown > rowsShown {
			return report.String() + fmt.Sprintf("  only in %s: and more\n", side)
		}
		fmt.Fprintf(&report, "  only in %s (%d times): %s\n", side, more, row)
	}
	return report.String()
}
