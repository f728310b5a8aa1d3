package pg_test

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const whereAmI = "select current_database() || ' ' || inet_server_port()"

// pg_dump must come to the server on which the session exports its snapshot, by whatever of the ways the definition names
// it: of several hosts, libpq may choose another than the driver.
func TestProgramsReachTheServerOfTheSession(t *testing.T) {
	t.Parallel()
	db, other := pgtest.Database(t, pgtest.Shared(t)), pgtest.Server(t)
	want := fmt.Sprintf("%s %d", db.Name, db.Server.Port())
	if err := other.CreateDatabase(t.Context(), db.Name); err != nil {
		t.Fatal(err)
	}
	uri, _ := url.Parse(db.URI)
	away, dead := fmt.Sprintf("127.0.0.1:%d", other.Port()), "127.0.0.1:1"
	reader := pgtest.Server(t)
	if err := reader.CreateDatabase(t.Context(), db.Name); err != nil {
		t.Fatal(err)
	}
	demote(t, reader)
	dir := t.TempDir()
	service := pgtest.WriteSecret(t, dir, "service.conf", fmt.Appendf(nil, "[shop]\nhost=127.0.0.1\nport=%d\ndbname=%s\nuser=nobody\n", other.Port(), db.Name))
	for name, e := range map[string]migration.Endpoint{
		"uri":         {URI: db.URI},
		"fields":      {Host: "127.0.0.1", Port: db.Server.Port(), Database: db.Name, User: "postgres", SSL: &migration.SSL{Mode: "prefer"}},
		"dead first":  {URI: fmt.Sprintf("postgres://postgres@%s,%s/%s", dead, uri.Host, db.Name)},
		"name":        {URI: fmt.Sprintf("postgres://postgres@localhost:%d/%s", db.Server.Port(), db.Name)},
		"standby":     {URI: fmt.Sprintf("postgres://postgres@127.0.0.1:%d,%s/%s?target_session_attrs=read-write", reader.Port(), uri.Host, db.Name)},
		"first wins":  {URI: fmt.Sprintf("postgres://postgres@%s,%s/%s", uri.Host, away, db.Name)},
		"service":     {URI: fmt.Sprintf("postgres://postgres@/?service=shop&servicefile=%s&port=%d", service, db.Server.Port())},
		"odd options": {URI: db.URI + "?options=-c%20search_path%3Dmischief&keepalives=1&gssencmode=prefer"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := mustConnect(t, e)
			if got := strings.TrimSpace(runLibpq(t, db, e, conn, "psql", "-XAtc", whereAmI)); got != want {
				t.Errorf("it came to %s, not %s", got, want)
			}
		})
	}
}

// demote makes a server a standby, of which there never is a primary.
func demote(t *testing.T, s *pgserver.Server) {
	t.Helper()
	if _, err := s.Put("standby.signal", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context(), pgserver.Fast); err != nil {
		t.Fatal(err)
	}
}

// Settings of libpq in our environment may lead it elsewhere, or keep it out.
func TestProgramsDoNotInheritLibpqsEnvironment(t *testing.T) {
	db := pgtest.Database(t, pgtest.Shared(t))
	e := migration.Endpoint{URI: db.URI}
	t.Setenv("PGHOSTADDR", "")
	for name, value := range map[string]string{
		"PGREQUIREPEER": "", "PGSSLMINPROTOCOLVERSION": "", "PGLOADBALANCEHOSTS": "random", "PGTZ": "Asia/Kathmandu", "PGDATESTYLE": "German",
	} {
		t.Setenv(name, value)
	}
	conn := mustConnect(t, e)
	if out := runLibpq(t, db, e, conn, "psql", "-XAtc", "show timezone"); strings.Contains(out, "Kathmandu") {
		t.Errorf("psql has %s", out)
	}
}

// PG* variables, a service file and ~/.pgpass work as they do for psql.
func TestEnvironmentServiceAndPassfile(t *testing.T) {
	db := withRules(t, "host all postgres 127.0.0.1/32 trust", "host all app 127.0.0.1/32 scram-sha-256")
	db.Exec(t, `create role app login password 'right'`)
	home := t.TempDir()
	t.Setenv("HOME", home)
	pgtest.WriteSecret(t, home, ".pgpass", fmt.Appendf(nil, "127.0.0.1:%d:*:app:right\n", db.Server.Port()))
	pgtest.WriteSecret(t, home, ".pg_service.conf", fmt.Appendf(nil, "[shop]\nhost=127.0.0.1\nport=%d\nuser=app\n", db.Server.Port()))
	e := migration.Endpoint{Database: db.Name}
	for name, set := range map[string]map[string]string{
		"variables": {"PGHOST": "127.0.0.1", "PGPORT": fmt.Sprint(db.Server.Port()), "PGUSER": "app"},
		"password":  {"PGHOST": "127.0.0.1", "PGPORT": fmt.Sprint(db.Server.Port()), "PGUSER": "app", "PGPASSWORD": "right", "PGPASSFILE": os.DevNull},
		"service":   {"PGSERVICE": "shop"},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range set {
				t.Setenv(variable, value)
			}
			conn := mustConnect(t, e)
			if out := runLibpq(t, db, e, conn, "psql", "-XAtc", "select current_user"); strings.TrimSpace(out) != "app" {
				t.Errorf("psql says %s", out)
			}
		})
	}
	t.Setenv("PGSERVICE", "shopp")
	refused(t, server(t, migration.Source, e), migration.FaultUnauthorized, pg.RefusedFile, "service shopp cannot be read", "PGSERVICEFILE")
}

// A failover that is not over yet: all that answer are standbys.
func TestNoHostTakesWrites(t *testing.T) {
	t.Parallel()
	reader := pgtest.Server(t)
	demote(t, reader)
	e := migration.Endpoint{URI: fmt.Sprintf("postgres://postgres@127.0.0.1:1,127.0.0.1:%d/postgres?target_session_attrs=read-write", reader.Port())}
	refused(t, server(t, migration.Target, e), migration.FaultConnection, pg.RefusedAttrs, "target_session_attrs demands", "read-write",
		"connection refused", "read only connection", "name the primary")
}
