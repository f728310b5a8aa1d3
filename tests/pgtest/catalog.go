package pgtest

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

//go:embed catalog.sql
var catalogSQL string

// Catalog describes everything that a database holds besides rows, one line for each object or property: its kind, its
// name and what it is, as the server writes it. Kinds that are excepted are left out. The lines of one version compare;
// those of others do but for what the versions spell differently. What belongs to extensions is not among them, nor is
// the schema dts_sync.
func Catalog(t testing.TB, db *DB, exceptKinds ...string) []string {
	t.Helper()
	var lines []string
	err := db.snapshot(t.Context(), digitsExact, func(conn *pgx.Conn) error {
		rows, err := texts(t.Context(), conn, catalogSQL)
		for _, row := range rows {
			if !slices.Contains(exceptKinds, row[0]) {
				lines = append(lines, fmt.Sprintf("%s %s: %s", row[0], row[1], row[2]))
			}
		}
		return err
	})
	if err != nil {
		t.Fatalf("describe %s: %v", db.Name, err)
	}
	return lines
}

// Difference shows the lines that only one of two descriptions has; "" when they are the same.
func Difference(source, target []string) string {
	var report strings.Builder
	for _, line := range source {
		if !slices.Contains(target, line) {
			fmt.Fprintln(&report, "only in source:", line)
		}
	}
	for _, line := range target {
		if !slices.Contains(source, line) {
			fmt.Fprintln(&report, "only in target:", line)
		}
	}
	return report.String()
}
