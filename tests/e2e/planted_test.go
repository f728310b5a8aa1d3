package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// planted are the faults of TestPlantedFaults, each of another kind.
var planted = []string{
	"source WAL_LEVEL", "source REPLICATION_SLOTS", "source SLOT_ROOM", "source REPLICATION_RIGHT", "source SOURCE_SELECT",
	"source PUBLICATION_RIGHT", "source CONNECTIONS", "source UNLOGGED_TABLES", "source SEQUENCES_BEHIND", "source TABLES_WITHOUT_KEY",
	"target SYNCHRONOUS_STANDBYS", "target TARGET_CREATE", "target ROLES", "target EXTENSIONS", "target TARGET_SAME_TABLES",
}

// Two servers that nobody has prepared are told everything that is wrong at once, and whoever gives each fix to psql as it
// stands, as the administrator of the side that the item names, gets a check that passes.
func TestPlantedFaults(t *testing.T) {
	t.Parallel()
	s := plant(t)
	code, result, text := s.check()
	t.Logf("before:\n%s", text)
	require.Equal(t, 3, code)
	found := map[string]migration.Item{}
	for _, item := range result.Blocking() {
		found[string(item.Side)+" "+item.Code] = item
		require.Contains(t, text, item.Code)
	}
	for _, fault := range planted {
		require.Contains(t, found, fault)
	}

	require.True(t, found["source WAL_LEVEL"].Restart)
	s.mend(result.Blocking())
	_, result, text = s.check()
	t.Logf("after:\n%s", text)
	for _, item := range result.Blocking() {
		// What an administrator prepares names every table that can be published, and other fixes have made that more.
		require.Contains(t, []string{"PUBLICATION_RIGHT", "FENCE_RIGHT"}, item.Code, item.Found)
	}
	s.mend(result.Blocking())
	code, result, text = s.check()
	require.Empty(t, result.Blocking(), text)
	require.Equal(t, 0, code)
	require.InDelta(t, 100, result.SuccessRate, 0)
}

// mend does what the items say, and restarts the servers whose items say so.
func (s *scenario) mend(items []migration.Item) {
	s.t.Helper()
	restart := map[migration.Side]bool{}
	for _, item := range items {
		s.psql(item)
		restart[item.Side] = restart[item.Side] || item.Restart
	}
	for side := range restart {
		if restart[side] {
			require.NoError(s.t, s.server(side).Restart(s.t.Context(), pgserver.Fast))
		}
	}
}

// plant starts two servers full of faults, which plain roles look at.
func plant(t *testing.T) *scenario {
	t.Helper()
	s := &scenario{t: t, dir: t.TempDir()}
	s.source = pgtest.Server(t, pgtest.Setting("wal_level", "replica"), pgtest.Setting("max_replication_slots", "1"),
		pgtest.Setting("max_slot_wal_keep_size", "64MB"))
	s.target = pgtest.Server(t)
	s.from, s.to = pgtest.Database(t, s.source), pgtest.Database(t, s.target)
	s.file = filepath.Join(s.dir, "migration.yaml")
	definition := fmt.Sprintf("name: shop\nsource: {uri: %q}\ntarget: {uri: %q}\nwithoutKey: refuse\nparallel: {copy: 2, index: 2}\n",
		as(s.from.URI, "app"), as(s.to.URI, "owner"))
	require.NoError(t, os.WriteFile(s.file, []byte(definition), 0o600))

	s.from.Exec(t, `create role app login connection limit 3; create role boss; create role reader`)
	s.from.Exec(t, `select pg_create_physical_replication_slot('forgotten')`)
	s.from.Exec(t, `
		create extension pageinspect;
		create table orders (id serial primary key, note text); insert into orders values (7, 'a');
		create policy p on orders to reader using (true);
		create unlogged table log (id int primary key);
		create table nokey (n int);
		create table "Odd one" (id int primary key);
		alter table orders owner to app; alter table log owner to app; alter table nokey owner to app; alter table "Odd one" owner to boss`)
	s.to.Exec(t, `create role owner login; create table orders (id int)`)
	require.NoError(t, s.target.Set(t.Context(), "synchronous_standby_names", "ghost"))
	t.Cleanup(func() { // or a test that has failed hangs when its database is dropped
		require.NoError(t, s.target.Set(context.Background(), "synchronous_standby_names", ""))
	})
	return s
}

// check runs pgdts check twice: for people, and as data.
func (s *scenario) check() (int, migration.CheckResult, string) {
	s.t.Helper()
	_, text, _ := s.run("check", "-f", s.file)
	code, out, errs := s.run("check", "-f", s.file, "-o", "json")
	var result migration.CheckResult
	require.NoError(s.t, json.Unmarshal([]byte(out), &result), "%s%s", out, errs)
	return code, result, text
}

func (s *scenario) server(side migration.Side) *pgserver.Server {
	if side == migration.Source {
		return s.source
	}
	return s.target
}

// psql gives an item's fix to psql as it stands.
func (s *scenario) psql(item migration.Item) {
	s.t.Helper()
	db := s.from
	if item.Side == migration.Target {
		db = s.to
	}
	psql := exec.CommandContext(s.t.Context(), db.Server.Binaries.Path("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-d", db.URI, "-f", "-")
	psql.Stdin = strings.NewReader(item.Fix)
	out, err := psql.CombinedOutput()
	require.NoError(s.t, err, "the fix of %s is not for psql: %s\n%s", item.Code, item.Fix, out)
}
