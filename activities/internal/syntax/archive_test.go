package syntax_test

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/activities/internal/syntax"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// suffixed is a Names that gives everything of its own a name that can be told from all others and led back.
type suffixed struct{ relations map[migration.TableName]bool }

const suffix = "_Zß"

func (s suffixed) Same() bool { return false }

func (s suffixed) Schema(name string) string {
	if name == "public" || len(name+suffix) > 63 {
		return name
	}
	return name + suffix
}

func (s suffixed) Relation(name migration.TableName) migration.TableName {
	to := migration.TableName{Schema: s.Schema(name.Schema), Name: name.Name}
	if s.relations[name] && len(name.Name+suffix) <= 63 {
		to.Name += suffix
	}
	return to
}

// What a database holds that was made of a dump with other names is, apart from those, what the dump was taken of.
func TestADumpUnderOtherNamesMakesTheSame(t *testing.T) {
	t.Parallel()
	source, target := pgtest.Database(t, pgtest.Shared(t)), pgtest.Database(t, pgtest.Shared(t))
	load(t, source, "../../../tests/fixtures/every.sql", "../../../tests/fixtures/shop.sql")
	rebuild(t, source, target)
	want, got := pgtest.Catalog(t, source), pgtest.Catalog(t, target)
	for _, lines := range [][]string{want, got} {
		for i, line := range lines {
			lines[i] = ledBack(line)
		}
	}
	if difference := pgtest.Difference(want, got); difference != "" || len(want) < 1500 {
		t.Errorf("%d lines differ:\n%s", len(want), difference)
	}
}

// What an old server's definitions are printed as is understood too.
func TestADumpOfAnOldServerIsRenamed(t *testing.T) {
	t.Parallel()
	source, target := pgtest.Database(t, pgtest.Server(t, pgtest.Major(10))), pgtest.Database(t, pgtest.Shared(t))
	load(t, source, "../../../tests/fixtures/every.sql")
	rebuild(t, source, target)
}

// rebuild makes a database of another's dump, with other names.
func rebuild(t *testing.T, source, target *pgtest.DB) {
	t.Helper()
	names := suffixed{relations: map[migration.TableName]bool{}}
	for _, row := range source.Query(t, `select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p', 'v', 'm', 'f') union all
		select n.nspname, t.typname from pg_type t join pg_namespace n on n.oid = t.typnamespace where t.typname = 'mood'`) {
		names.relations[migration.TableName{Schema: row[0], Name: row[1]}] = true
	}
	conn := target.Conn(t)
	if _, err := conn.Exec(t.Context(), "set search_path = ''; set check_function_bodies = off"); err != nil {
		t.Fatal(err)
	}
	entries, changed := archive(t, source), 0
	for _, e := range entries {
		ddl, err := syntax.Rename(e.DDL, names)
		if err != nil {
			t.Errorf("%s %s: %v", e.Kind, e.Tag, err)
			continue
		}
		if ddl != e.DDL {
			changed++
		}
		if e.Method != "" {
			ddl = "set default_table_access_method = " + migration.Quote(e.Method) + ";" + ddl
		}
		if _, err := conn.Exec(t.Context(), ddl); err != nil {
			t.Errorf("%v\n%.2000s", err, ddl)
		}
	}
	if changed < 300 || changed < len(entries)*9/10 {
		t.Errorf("only %d of %d statements have changed", changed, len(entries))
	}
}

var (
	quoted = regexp.MustCompile(`\\?"([\p{L}_][\p{L}\d_]*)\\?"`)
	alias  = regexp.MustCompile(`\.([\p{L}\d_]+)( AS)? ([\p{L}\d_]+)`)
)

// ledBack takes the suffix, the quotes that it needs, and the aliases that keep old names, from a line.
func ledBack(line string) string {
	line = quoted.ReplaceAllString(strings.ReplaceAll(line, suffix, ""), "$1")
	return alias.ReplaceAllStringFunc(line, func(found string) string {
		if parts := alias.FindStringSubmatch(found); parts[1] == parts[3] {
			return "." + parts[1]
		}
		return found
	})
}

func load(t *testing.T, db *pgtest.DB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Conn(t).Exec(t.Context(), string(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// archive is what pg_dump says about a database, in the order of creation, without what is about the archive.
func archive(t *testing.T, db *pgtest.DB) []schema.Entry {
	t.Helper()
	path, _, err := schema.FindDump(150000)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), path, "--format=custom", "--schema-only", "--dbname="+db.URI).Output()
	if err != nil {
		t.Fatal(err)
	}
	all, err := schema.ReadArchive(strings.NewReader(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	var entries []schema.Entry
	for _, e := range all.Entries {
		switch e.Kind {
		case "ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE":
		default:
			entries = append(entries, e)
		}
	}
	return entries
}
