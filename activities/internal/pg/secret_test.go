package pg_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// named is a worker's connection that takes its password from a command.
func named(uri string, command ...string) *migration.Secrets {
	return &migration.Secrets{Connections: map[string]migration.Connection{
		"shop":  {Endpoint: migration.Endpoint{URI: uri, PasswordFrom: &migration.SecretRef{Command: command}}},
		"other": {Endpoint: migration.Endpoint{URI: uri}},
	}}
}

func connection(t *testing.T, name string, secrets *migration.Secrets) *pg.Server {
	t.Helper()
	s, err := pg.NewServer(migration.Source, migration.Endpoint{Connection: name}, secrets)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A secret may come back while a migration waits, so that nothing about it is final; and nothing that it holds is told.
func TestSecretThatIsNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := pgtest.WriteSecret(t, dir, "empty", []byte("\n"))
	large := pgtest.WriteSecret(t, dir, "large", []byte(strings.Repeat("hunter2 ", 10_000)))
	for want, from := range map[string]migration.SecretRef{
		"environment variable PGDTS_NOT_SET is not set": {Env: "PGDTS_NOT_SET"},
		"no/such/file cannot be read: no such file":     {File: "no/such/file"},
		"cannot be read: is a directory":                {File: dir},
		"holds nothing":                                 {File: empty},
		"gives more than 16384 bytes":                   {File: large},
		"among the worker's own connections only":       {Command: []string{"echo", "hunter2"}},
	} {
		s := server(t, migration.Source, migration.Endpoint{URI: "postgres://h/d", PasswordFrom: &from})
		refused(t, s, migration.FaultUnauthorized, pg.RefusedSecret, want, "source.passwordFrom")
	}
	for want, command := range map[string][]string{
		"command sh ended with exit status 3":            {"sh", "-c", "echo hunter2 >&2; exit 3", "hunter2"},
		"command no-such-program is not on this machine": {"no-such-program", "hunter2"},
		"command true holds nothing":                     {"true"},
		"command none could not be run: no such file":    {dir + "/none"},
		"gives more than 16384 bytes":                    {"sh", "-c", "yes hunter2 | head -c 1000000"},
	} {
		fault := refused(t, connection(t, "shop", named("postgres://h/d", command...)), migration.FaultUnauthorized, pg.RefusedSecret, want, "connections.shop.passwordFrom")
		if strings.Contains(fmt.Sprintf("%+v", fault), "hunter2") {
			t.Errorf("told: %+v", fault)
		}
	}
}

// A command that hangs, and its children, must not hang the migration.
func TestCommandThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	began := time.Now()
	refused(t, connection(t, "shop", named("postgres://h/d", "sh", "-c", "sleep 60; echo late")), migration.FaultUnauthorized, pg.RefusedSecret, "did not end within 10s")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestConnectionThatTheWorkerDoesNotKnow(t *testing.T) {
	t.Parallel()
	s := connection(t, "shopp", named("postgres://app@h/d"))
	refused(t, s, migration.FaultUnauthorized, pg.RefusedConnection, "knows no connection shopp", "it knows other, shop", "--connections")
	refused(t, connection(t, "shop", nil), migration.FaultUnauthorized, pg.RefusedConnection, "it knows none")
	if s.Address() != "connection:shopp" || connection(t, "shop", named("postgres://app@h/d")).Address() != "app@h:5432/d" {
		t.Errorf("addresses: %s", s.Address())
	}
}

// A password that changes while a migration runs is taken at the next connect, by file, command and variable alike.
func TestRotatedSecretIsReadAnew(t *testing.T) {
	t.Parallel()
	db := withRules(t, "host all postgres 127.0.0.1/32 trust", "host all app 127.0.0.1/32 scram-sha-256")
	db.Exec(t, `create role app login password 'first'`)
	uri := strings.Replace(db.URI, "postgres@", "app@", 1)
	file := pgtest.WriteSecret(t, t.TempDir(), "password", []byte("first\n"))
	const variable = "PGDTS_TEST_ROTATED"
	setenv := func(value string) {
		if err := os.Setenv(variable, value); err != nil { // this test's name only: tests run side by side
			t.Fatal(err)
		}
	}
	setenv("first")
	servers := []*pg.Server{
		server(t, migration.Source, migration.Endpoint{URI: uri, PasswordFrom: &migration.SecretRef{File: file}}),
		server(t, migration.Source, migration.Endpoint{URI: uri, PasswordFrom: &migration.SecretRef{Env: variable}}),
		connection(t, "shop", named(uri, "cat", file)),
	}
	each := func(check func(*pg.Server)) {
		t.Helper()
		for _, s := range servers {
			check(s)
		}
	}
	connects := func(s *pg.Server) {
		t.Helper()
		conn, err := s.Connect(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		pg.Close(conn)
	}
	each(connects)
	db.Exec(t, `alter role app password 'second'`)
	each(func(s *pg.Server) {
		t.Helper()
		refused(t, s, migration.FaultUnauthorized, pg.RefusedPassword, "was refused")
	})
	pgtest.WriteSecret(t, filepath.Dir(file), "password", []byte("second\n"))
	setenv("second")
	each(connects)
}
