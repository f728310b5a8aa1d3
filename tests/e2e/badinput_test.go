package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/load"
	"github.com/pgdts/pgdts/tests/pgtest"
)

// Each mistake ends with a clear sentence that names the thing and the remedy, the right exit code, and nothing left
// behind on either server.
func TestBadInput(t *testing.T) {
	for _, mistake := range []struct {
		name    string
		arrange func(*testing.T, *scenario)
		code    int
		says    []string
	}{
		{"missing file", func(_ *testing.T, s *scenario) { s.file = filepath.Join(s.dir, "absent.yaml") }, 2, []string{"absent.yaml"}},
		{"unknown key", func(_ *testing.T, s *scenario) { s.define("cutoverr: {mode: auto}\n") }, 2, []string{"cutoverr", "migration.yaml:4:"}},
		{"key not built", func(_ *testing.T, s *scenario) { s.define("alerts: {latency: {above: 60s}}\n") }, 2, []string{"alerts", "not supported"}},
		{"window out of bounds", func(_ *testing.T, s *scenario) { s.define("retry: {connection: 5m}\n") }, 2, []string{"retry.connection", "10m"}},
		{"unreachable host", unreachable, 3, []string{"SOURCE_CONNECTION", "refused"}},
		{"wrong password", wrongPassword, 3, []string{"SOURCE_CONNECTION", "password"}},
		{"missing target database", missingDatabase, 3, []string{"TARGET_CONNECTION", "does not exist"}},
		{
			"same tables on the target", func(t *testing.T, s *scenario) { s.to.Exec(t, "create table public.t (id int primary key)") },
			3,
			[]string{"TARGET_SAME_TABLES", "public.t"},
		},
		{"wal_level replica", func(t *testing.T, s *scenario) { s.sourceWith(t, "wal_level", "replica") }, 3, []string{"WAL_LEVEL", "logical"}},
		{"full slot table", fullSlots, 3, []string{"REPLICATION_SLOTS", "max_replication_slots"}},
	} {
		t.Run(mistake.name, func(t *testing.T) {
			s := newScenario(t, "")
			s.t = t
			s.from.Exec(t, "create table public.t (id int primary key, v text)")
			mistake.arrange(t, s)
			code, out, errs := s.run("run", "-f", s.file)
			require.Equal(t, mistake.code, code, "%s%s", out, errs)
			for _, text := range mistake.says {
				require.Contains(t, out+errs, text)
			}
			s.mustLeaveNothing()
			require.Empty(t, s.to.Query(t, "select nspname::text from pg_namespace where nspname = 'dts_sync'"))
		})
	}
}

func unreachable(t *testing.T, s *scenario) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	definition := fmt.Sprintf("name: shop\nsource: {uri: \"postgres://postgres@127.0.0.1:%d/shop\"}\ntarget: {uri: %q}\n", port, s.to.URI)
	require.NoError(t, os.WriteFile(s.file, []byte(definition), 0o600))
}

// wrongPassword lets the server ask for one.
func wrongPassword(t *testing.T, s *scenario) {
	s.from.Exec(t, "create role locked login password 'right'")
	hba := pgtest.Value[string](t, s.from, "show hba_file")
	rules, err := os.ReadFile(hba)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(hba, append([]byte("host all locked 127.0.0.1/32 scram-sha-256\n"), rules...), 0o600))
	s.from.Exec(t, "select pg_reload_conf()")
	definition := fmt.Sprintf("name: shop\nsource: {uri: %q}\ntarget: {uri: %q}\n", as(s.from.URI, "locked:wrong-secret"), s.to.URI)
	require.NoError(t, os.WriteFile(s.file, []byte(definition), 0o600))
	t.Cleanup(func() { s.mustNotMention(t, "wrong-secret") })
}

// as puts another role, and maybe a password, into a URI.
func as(uri, role string) string {
	scheme, rest, _ := strings.Cut(uri, "://")
	_, address, _ := strings.Cut(rest, "@")
	return scheme + "://" + role + "@" + address
}

// mustNotMention looks for a secret in everything that the state directory keeps: Temporal's database, logs, report.
func (s *scenario) mustNotMention(t *testing.T, secret string) {
	t.Helper()
	found := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(s.dir, "state"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		found++
		require.NotContains(t, string(content), secret, path)
		return err
	}))
	require.Positive(t, found, "the state directory must have been written")
}

func missingDatabase(t *testing.T, s *scenario) {
	definition := fmt.Sprintf("name: shop\nsource: {uri: %q}\ntarget: {uri: %q}\n", s.from.URI, s.target.URI("absent"))
	require.NoError(t, os.WriteFile(s.file, []byte(definition), 0o600))
}

// sourceWith replaces the source by a server with another setting.
func (s *scenario) sourceWith(t *testing.T, name, value string) {
	s.source = pgtest.Server(t, pgtest.Setting(name, value))
	s.from = pgtest.Database(t, s.source)
	s.from.Exec(t, "create table public.t (id int primary key, v text)")
	s.define("")
}

func fullSlots(t *testing.T, s *scenario) {
	s.sourceWith(t, "max_replication_slots", "1")
	s.from.Exec(t, "select pg_create_physical_replication_slot('somebody')")
}

// A password that was typed into a definition works for run, and is nowhere to be found afterwards.
func TestPasswordsAreNowhereWritten(t *testing.T) {
	s := newScenario(t, "cutover: {mode: auto, steadyFor: 1s}\n")
	s.from.Exec(t, load.Schema)
	s.from.Exec(t, "create role mover superuser login password 'Kept-Secret-7'")
	definition := fmt.Sprintf("name: shop\nsource: {uri: %q}\ntarget: {uri: %q}\ncutover: {mode: auto, steadyFor: 1s}\n",
		as(s.from.URI, "mover:Kept-Secret-7"), s.to.URI)
	require.NoError(t, os.WriteFile(s.file, []byte(definition), 0o600))
	p := s.start(nil, "run", "-f", s.file)
	require.Equal(t, 0, p.wait(timeLimit))
	require.NotContains(t, p.out.String()+p.err.String(), "Kept-Secret-7")
	s.mustNotMention(t, "Kept-Secret-7")
	pgtest.MustEqual(t, s.from, s.to)
}
