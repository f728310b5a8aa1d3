package pg_test

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// The server is the judge of what a literal and an identifier mean, with either reading of backslashes. What is not
// quoted rightly is SQL by whoever has written a row or named a table.
func FuzzQuoting(f *testing.F) {
	for _, text := range []string{
		"a", "it's", `back\slash`, `\'; drop table a; --`, `"`, `"; --`, `''`, `\\`, `E'`, "$$", "new\nline\ttab\r", "é漢\U0001F600",
		"select", "A b", " ", "/* ", "--", "%s", ":name", "?", "\x01\x7f",
	} {
		f.Add(text)
	}
	db := pgtest.Database(f, pgtest.Shared(f))
	on, off := db.Conn(f), db.Conn(f)
	if _, err := off.Exec(f.Context(), "set standard_conforming_strings = off; set escape_string_warning = off"); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return // no server holds such text
		}
		for _, conn := range []plain{{on.PgConn()}, {off.PgConn()}} {
			rows, err := conn.query(t.Context(), "select "+migration.Literal(text))
			if err != nil || rows[0][0] != text {
				t.Errorf("literal %q became %q (%v)", text, rows, err)
			}
			if text == "" || len(text) > 63 {
				continue
			}
			rows, err = conn.query(t.Context(), "select * from (select 1) t ("+migration.Quote(text)+") where "+migration.Quote(text)+" = 1")
			if err != nil || len(rows) != 1 {
				t.Errorf("identifier %q: %v", text, err)
			}
		}
	})
}

// plain sends text as it is, without parameters, as COPY and DDL are sent.
type plain struct{ conn *pgconn.PgConn }

func (p plain) query(ctx context.Context, sql string) ([][]string, error) {
	results, err := p.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, row := range results[0].Rows {
		rows = append(rows, []string{string(row[0])})
	}
	return rows, nil
}
