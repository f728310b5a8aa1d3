package syntax_test

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/syntax"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

var update = flag.Bool("update", false, "write the expected texts anew")

// renames maps schemas, and tables and types by schema and name; what is not in it keeps its name.
type renames struct {
	schemas   map[string]string
	relations map[migration.TableName]string
}

func (r renames) Same() bool { return len(r.schemas)+len(r.relations) == 0 }

func (r renames) Schema(name string) string {
	if to, ok := r.schemas[name]; ok {
		return to
	}
	return name
}

func (r renames) Relation(name migration.TableName) migration.TableName {
	to := migration.TableName{Schema: r.Schema(name.Schema), Name: name.Name}
	if name.Schema == "shop" && strings.HasPrefix(name.Name, "moved") {
		to.Schema = "other"
	}
	if renamed, ok := r.relations[name]; ok {
		to.Name = renamed
	}
	return to
}

func shopNames() renames {
	return renames{
		schemas: map[string]string{"shop": "store", "Mixed Case": "mixed", "data": "select"},
		relations: map[migration.TableName]string{
			{Schema: "shop", Name: "orders"}: "Aufträge", {Schema: "shop", Name: "child"}: "kid",
			{Schema: "shop", Name: "order_state"}: "state of order", {Schema: "shop", Name: "a"}: "b", {Schema: "shop", Name: "b"}: "a",
		},
	}
}

// Every kind of statement follows the new names, as the script expects; -update writes what came out.
func TestEveryStatementFollowsTheNewNames(t *testing.T) {
	t.Parallel()
	const script, golden = "testdata/rename.sql", "testdata/renamed.sql"
	input, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(string(input)), "\n\n") {
		if i == 0 {
			continue // about the names
		}
		comment := ""
		if strings.HasPrefix(block, "-- ") {
			comment, block, _ = strings.Cut(block, "\n")
			comment += "\n"
		}
		renamed, err := syntax.Rename(block, shopNames())
		switch {
		case err != nil:
			renamed = "error: " + err.Error()
		case renamed == block:
			renamed = "as it was: " + block
		}
		got.WriteString(comment + renamed + "\n\n")
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	gotBlocks, wantBlocks := strings.Split(got.String(), "\n\n"), strings.Split(string(want), "\n\n")
	if len(gotBlocks) != len(wantBlocks) || len(gotBlocks) < 100 {
		t.Fatalf("%d statements, want %d", len(gotBlocks), len(wantBlocks))
	}
	for i := range gotBlocks {
		if gotBlocks[i] != wantBlocks[i] {
			t.Errorf("got\n%s\nwant\n%s", gotBlocks[i], wantBlocks[i])
		}
	}
}

// names are what people have called things.
var names = []string{
	"plain", "Mixed Case", "select", "table", "data", "public", `weird""name`, `"`, `""`, "a.b", ".", "a;b", "--", "/*", "*/", "'", "''", "$$", "$1", "~1!", `"~1!"`, "~~1!",
	`back\slash`, "ünï", "日本語", "😀", " ", "tab\tand\nline", "search_path", "schema", "null", "new", "old", "excluded", "ONLY", "int4", "none", "%s", "{}", "[]", "0", "-1",
	strings.Repeat("x", 63), strings.Repeat("ü", 31), "interval", "setof", "U&", "e'x'",
}

// Whatever things are called, before and after, the server finds the same under the new names.
func TestNoNameIsTooStrange(t *testing.T) {
	t.Parallel()
	target := pgtest.Database(t, pgtest.Shared(t))
	conn := target.Conn(t)
	for i, from := range names {
		to := names[(i+7)%len(names)]
		old, table := migration.TableName{Schema: from, Name: from}, migration.TableName{Schema: to, Name: to}
		q := migration.Quote(from)
		ddl := strings.ReplaceAll(`create schema Q; create type Q."t y" as enum ('a'); create sequence Q."s q";
			create table Q.Q (Q int default nextval(§1::regclass), y Q."t y" default 'a'::Q."t y", constraint Q check (Q.Q > 0));
			alter sequence Q."s q" owned by Q.Q.Q; create index Q on Q.Q (Q); comment on column Q.Q.Q is 'c'; comment on table Q.Q is 't';
			create view Q."v w" as select Q.Q, Q.y from Q.Q; create function Q.Q(Q.Q) returns Q."t y" language plpgsql set search_path to §2, 'x' as 'begin end'`, "Q", q)
		ddl = strings.NewReplacer("§2", strings.TrimSpace(migration.Literal(from)), "§1", strings.TrimSpace(migration.Literal(q+`."s q"`))).Replace(ddl)
		mapped := renames{schemas: map[string]string{from: to}, relations: map[migration.TableName]string{old: to}}
		renamed, err := syntax.Rename(ddl, mapped)
		if err != nil {
			t.Errorf("%q: %v", from, err)
			continue
		}
		if back, err := syntax.Rename(ddl, renames{schemas: map[string]string{"elsewhere": "x"}}); err != nil || back != ddl {
			t.Errorf("%q: changed without a reason, error %v", from, err)
		}
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if to == "public" {
			renamed = "drop schema public;" + renamed
		}
		if _, err := tx.Exec(t.Context(), renamed); err != nil {
			t.Errorf("%q to %q: %v\n%s", from, to, err, renamed)
		} else if got := one(t, tx, "select $1::text::regclass::text || pg_get_viewdef($2::text::regclass) || obj_description($1::text::regclass)", table.SQL(), migration.Quote(to)+`."v w"`); got == "" {
			t.Errorf("%q to %q: nothing found", from, to)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func one(t *testing.T, tx pgx.Tx, sql string, args ...any) string {
	t.Helper()
	var value string
	if err := tx.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Errorf("%v: %v", args, err)
	}
	return value
}

// Callers at the same time wait for each other instead of compiling parsers of their own.
func TestCallersTakeTurns(t *testing.T) {
	t.Parallel()
	var group errgroup.Group
	for range 16 {
		group.Go(func() error {
			renamed, err := syntax.Rename("create table shop.orders (id int)", shopNames())
			if err == nil && renamed != `create table "store"."Aufträge" (id int)` {
				err = errors.New(renamed)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// An expression keeps its text but for the names.
func TestExpressionsFollowTheNewNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"state = 'new'::shop.order_state -- why": `state = 'new'::"store"."state of order" -- why`,
		"shop.twice(id) operator(shop.<) orders": `"store".twice(id) operator("store".<) orders`,
		"a > 0":                                  "a > 0",
	} {
		if got, err := syntax.RenameExpression(text, shopNames()); err != nil || got != want {
			t.Errorf("%s: %s, error %v", text, got, err)
		}
	}
	if got, err := syntax.RenameExpression("shop.f(a", shopNames()); err == nil {
		t.Errorf("accepted: %s", got)
	}
}

// What pg_dump 18 writes and the parser does not know follows the new names too, and means the same to a server.
func TestWhatOnlyNewerServersKnowIsRenamed(t *testing.T) {
	t.Parallel()
	const schema = `CREATE SCHEMA shop;
CREATE FUNCTION shop.twice(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'select $1 * 2';
CREATE TABLE shop.a (
    id integer,
    n integer CONSTRAINT "a named" NOT NULL NO INHERIT,
    enforced boolean,
    b integer GENERATED ALWAYS AS ((id + 1)),
    c integer GENERATED ALWAYS AS (shop.twice(id)) STORED,
    d integer,
    CONSTRAINT d_set NOT NULL d,
    CONSTRAINT later CHECK ((shop.twice(id) > 0)) NOT ENFORCED,
    CONSTRAINT sooner CHECK ((NOT enforced))
);
ALTER TABLE ONLY shop.a ADD CONSTRAINT a_pkey PRIMARY KEY (id);
ALTER TABLE shop.a ADD CONSTRAINT e_set NOT NULL enforced NOT VALID;
CREATE TABLE shop.orders (id int4range, during daterange);
CREATE TABLE shop.child (id int4range, during daterange, c integer);
ALTER TABLE ONLY shop.orders ADD CONSTRAINT orders_pkey PRIMARY KEY (id, during WITHOUT OVERLAPS);
ALTER TABLE ONLY shop.child ADD CONSTRAINT b_fkey FOREIGN KEY (id, PERIOD during) REFERENCES shop.orders(id, PERIOD during);
ALTER TABLE ONLY shop.child ADD CONSTRAINT c_fkey FOREIGN KEY (c) REFERENCES shop.a(id) ON DELETE CASCADE NOT ENFORCED;`
	server := pgtest.Server(t, pgtest.Major(18))
	source, target := pgtest.Database(t, server), pgtest.Database(t, server)
	source.Exec(t, schema)
	renamed, err := syntax.Rename(schema, suffixed{relations: map[migration.TableName]bool{
		{Schema: "shop", Name: "a"}: true, {Schema: "shop", Name: "orders"}: true, {Schema: "shop", Name: "child"}: true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	target.Exec(t, renamed)
	want, got := pgtest.Catalog(t, source), pgtest.Catalog(t, target)
	for _, lines := range [][]string{want, got} {
		for i, line := range lines {
			lines[i] = ledBack(line)
		}
	}
	if difference := pgtest.Difference(want, got); difference != "" || renamed == schema {
		t.Error(difference)
	}
}
