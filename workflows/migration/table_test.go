package migration_test

import (
	"testing"

	"github.com/pgdts/pgdts/workflows/migration"
)

func TestQuote(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a": `"a"`, "A b": `"A b"`, `a"b`: `"a""b"`, `"`: `""""`, "": `""`, `\`: `"\"`, "é'": `"é'"`, "select": `"select"`,
	} {
		if got := migration.Quote(name); got != want {
			t.Errorf("%s: %s, not %s", name, got, want)
		}
	}
	name := migration.TableName{Schema: `s"1`, Name: "Order Items"}
	if name.SQL() != `"s""1"."Order Items"` || name.String() != `s"1.Order Items` {
		t.Errorf("%s, %s", name.SQL(), name)
	}
	if got := migration.QuoteList([]string{"a", `b"`}); got != `"a", "b"""` {
		t.Error(got)
	}
	if got := migration.QuoteList(nil); got != "" {
		t.Error(got)
	}
}

func TestLiteral(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": `''`, "a": `'a'`, "it's": `'it''s'`, `a\b`: ` E'a\\b'`, `\'; drop table a; --`: ` E'\\''; drop table a; --'`,
		`\`: ` E'\\'`, "$1": `'$1'`, "line\nline": "'line\nline'",
	} {
		if got := migration.Literal(text); got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
	}
}
