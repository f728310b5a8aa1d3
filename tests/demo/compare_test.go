package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/load"
	"github.com/pgdts/pgdts/tests/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A comparison that finds everything equal proves nothing unless it sees each way of being different.
func TestComparisonSeesEveryDifference(t *testing.T) {
	server := pgtest.Shared(t)
	source, target := pgtest.Database(t, server), pgtest.Database(t, server)
	source.Exec(t, calendar)
	source.Exec(t, load.Schema)
	source.Exec(t, `create schema "Odd"; create table "Odd"."T" (t int, "a b" text); insert into "Odd"."T" values (1, 'x'), (1, 'x'), (null, '')`)
	clone(t, source, target)
	pgDump := server.Binaries.Path("pg_dump")
	differences := func() []string {
		t.Helper()
		c, err := compare(t.Context(), pgDump, source.URI, target.URI)
		require.NoError(t, err)
		require.Positive(t, c.tables)
		require.Positive(t, c.sequences)
		require.Positive(t, c.objects)
		return c.differences
	}
	require.Empty(t, differences(), "a clone is equal")

	for _, change := range []struct {
		name, do, undo, want string
		places               int
	}{
		{"a value", "update calendar.room set open = '[09:00,18:00)' where id = 10", "update calendar.room set open = '[08:00,18:00)' where id = 10", "table calendar.room", 1},
		{"a duplicate", `insert into "Odd"."T" values (1, 'x')`, `delete from "Odd"."T" where ctid = (select max(ctid) from "Odd"."T" where t = 1)`, "table Odd.T", 1},
		{"null for nothing", `update "Odd"."T" set "a b" = null where t is null`, `update "Odd"."T" set "a b" = '' where t is null`, "table Odd.T", 1},
		{"a sequence", "select setval('calendar.room_id_seq', 120, false)", "select setval('calendar.room_id_seq', 120, true)", "sequence calendar.room_id_seq", 1},
		{"a table", "create table calendar.more (i int)", "drop table calendar.more", "table calendar.more", 2},
		{"a comment", "comment on schema calendar is 'other'", "comment on schema calendar is 'meeting rooms of the shop'", "COMMENT -.SCHEMA calendar", 1},
		{"row security", "alter table calendar.booking disable row level security", "alter table calendar.booking enable row level security", "ROW SECURITY calendar.booking", 1},
		{"a rule", "drop rule booking_moved on calendar.booking", "select", "RULE calendar.booking booking_moved", 1},
	} {
		t.Run(change.name, func(t *testing.T) {
			target.Exec(t, change.do)
			found := differences()
			require.Contains(t, strings.Join(found, "\n"), change.want)
			require.Len(t, found, change.places, "and nothing else")
			target.Exec(t, change.undo)
		})
	}
}

// clone copies a database with PostgreSQL's own programs.
func clone(t *testing.T, source, target *pgtest.DB) {
	t.Helper()
	dump, err := exec.Command(source.Server.Binaries.Path("pg_dump"), source.URI).Output()
	require.NoError(t, err)
	restore := exec.Command(source.Server.Binaries.Path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", target.URI)
	restore.Stdin = strings.NewReader(string(dump))
	out, err := restore.CombinedOutput()
	require.NoError(t, err, string(out))
}
