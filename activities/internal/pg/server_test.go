package pg_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func server(t *testing.T, side migration.Side, e migration.Endpoint) *pg.Server {
	t.Helper()
	s, err := pg.NewServer(side, e, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refused connects in vain and checks kind, cause and words of the one sentence.
func refused(t *testing.T, s *pg.Server, kind migration.FaultKind, cause pg.Refusal, words ...string) migration.Fault {
	t.Helper()
	conn, err := s.Connect(t.Context(), "test")
	if err == nil {
		pg.Close(conn)
		t.Fatal("it connected")
	}
	fault := mustBe(t, err, kind)
	if got := pg.RefusalOf(err); got != cause {
		t.Errorf("cause is %s, not %s: %v", got, cause, err)
	}
	text := fault.Error()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("no %q in %q", word, text)
		}
	}
	if strings.Contains(text, "\n") || strings.Contains(text, "failed to") || fault.Hint == "" {
		t.Errorf("not one sentence with a remedy: %q", text)
	}
	return fault
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	port := db.Server.Port()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	db.Exec(t, fmt.Sprintf(`create role closed_%d login connection limit 0`, port))
	db.Exec(t, fmt.Sprintf(`create role mute_%d nologin`, port))
	for name, test := range map[string]struct {
		uri   string
		kind  migration.FaultKind
		cause pg.Refusal
		words []string
	}{
		"name": {
			"postgres://app@no-such-host.invalid/shop", migration.FaultConnection, pg.RefusedName,
			[]string{"source connect to app@no-such-host.invalid:5432/shop", "does not resolve"},
		},
		"nothing listens": {
			"postgres://app@127.0.0.1:1/shop", migration.FaultConnection, pg.RefusedUnreachable,
			[]string{"127.0.0.1:1", "connection refused"},
		},
		"nobody answers": {
			fmt.Sprintf("postgres://app@%s/shop?connect_timeout=1", silent.Addr()), migration.FaultConnection, pg.RefusedTimeout,
			[]string{"did not answer"},
		},
		"database": {
			db.Server.URI("absent"), migration.FaultUnauthorized, pg.RefusedDatabase, []string{`create database "absent";`},
		},
		"role": {
			fmt.Sprintf("postgres://nobody@127.0.0.1:%d/%s", port, db.Name), migration.FaultUnauthorized, pg.RefusedRole,
			[]string{`role "nobody" does not exist`},
		},
		"no login": {
			fmt.Sprintf("postgres://mute_%d@127.0.0.1:%d/%s", port, port, db.Name), migration.FaultUnauthorized, pg.RefusedRole,
			[]string{"not permitted to log in", "alter role"},
		},
		"full": {
			fmt.Sprintf("postgres://closed_%d@127.0.0.1:%d/%s", port, port, db.Name), migration.FaultConnection, pg.RefusedFull,
			[]string{"too many connections"},
		},
		"tls": {
			db.URI + "?sslmode=require", migration.FaultConnection, pg.RefusedNoTLS,
			[]string{"has TLS switched off", "source.ssl.mode", "ssl = on"},
		},
		"several hosts": {
			fmt.Sprintf("postgres://app@127.0.0.1:1,127.0.0.1:%d/absent", port), migration.FaultUnauthorized, pg.RefusedRole,
			[]string{`role "app" does not exist`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, server(t, migration.Source, migration.Endpoint{URI: test.uri}), test.kind, test.cause, test.words...)
		})
	}
}

// A password is asked for only where the server's rules say so, so these need a server of their own.
func TestWrongAndMissingPassword(t *testing.T) {
	t.Parallel()
	db := withRules(t, "host all postgres 127.0.0.1/32 trust", "host all app 127.0.0.1/32 scram-sha-256", "host all guest 127.0.0.1/32 reject")
	db.Exec(t, `create role app login password 'right'; create role guest login`)
	uri := func(user string) string { return strings.Replace(db.URI, "postgres@", user+"@", 1) }

	s, err := pg.NewServer(migration.Source, migration.Endpoint{URI: uri("app")}, &migration.Secrets{Typed: map[migration.Side]migration.Typed{migration.Source: {Password: "wrong-word"}}})
	if err != nil {
		t.Fatal(err)
	}
	fault := refused(t, s, migration.FaultUnauthorized, pg.RefusedPassword, `password of role "app" was refused`, "source.passwordFrom")
	if fault.SQLState != "28P01" || strings.Contains(fmt.Sprintf("%+v", fault), "wrong-word") {
		t.Errorf("%+v", fault)
	}
	refused(t, server(t, migration.Source, migration.Endpoint{URI: uri("app")}), migration.FaultUnauthorized, pg.RefusedPassword, "none was given")
	refused(t, server(t, migration.Target, migration.Endpoint{URI: uri("guest")}), migration.FaultUnauthorized, pg.RefusedRule, "pg_hba.conf")
	refused(t, server(t, migration.Target, migration.Endpoint{URI: uri("unheard_of")}), migration.FaultUnauthorized, pg.RefusedRule, "pg_hba.conf")

	if err := os.Setenv("PGDTS_TEST_PASSWORD", "right"); err != nil { // this test's name only: tests run side by side
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []migration.SecretRef{{Env: "PGDTS_TEST_PASSWORD"}, {File: file}} {
		s := server(t, migration.Source, migration.Endpoint{URI: uri("app"), PasswordFrom: &from})
		conn, err := s.Connect(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		pg.Close(conn)
	}
}

// withRules starts a server whose pg_hba.conf holds these lines.
func withRules(t *testing.T, rules ...string) *pgtest.DB {
	t.Helper()
	private := pgtest.Server(t)
	setRules(t, private, rules...)
	return pgtest.Database(t, private)
}

func setRules(t *testing.T, s *pgserver.Server, rules ...string) {
	t.Helper()
	text := strings.Join(append(rules, "local all all trust", ""), "\n")
	if err := os.WriteFile(filepath.Join(s.Dir, "data", "pg_hba.conf"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context(), pgserver.Fast); err != nil {
		t.Fatal(err)
	}
}

// A connection string that cannot be read is quoted nowhere: it may hold a password.
func TestUnreadableSettingsAreNotQuoted(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{
		"postgres://app:hunter2@h:port/d", "postgres://app:hunter2@h/d?sslmode=sometimes", "host=h password=hunter2 sslmode=never",
		"postgres://app:hun%ter2@h/d", "postgres://app:hunter2@h/d?sslcrl=root.crl", "postgres://app:hunt?er2@h/d",
		"postgres://app:hunter2@h/d?sslrootcert=system&sslmode=verify-ca", "postgres://app@h/d?password=hunter2&target_session_attrs=x",
	} {
		_, err := pg.NewServer(migration.Source, migration.Endpoint{URI: uri}, nil)
		if err == nil {
			t.Errorf("%s is taken", uri)
			continue
		}
		mustBe(t, err, migration.FaultInvalid)
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), "hunter2") || strings.Contains(e.Error(), "hun%") || strings.Contains(e.Error(), "postgres://app") {
				t.Errorf("quoted: %v", e)
			}
		}
	}
}

// Names with spaces and plus signs come through both forms of an endpoint, to us and to pg_dump.
func TestOddNames(t *testing.T) {
	t.Parallel()
	const odd = "a b+c'd%20e"
	for form, e := range map[string]migration.Endpoint{
		"fields": {Host: "h", Database: odd, User: odd},
		"path":   {URI: "postgres://" + url.PathEscape(odd) + "@h/" + url.PathEscape(odd)},
		"query":  {URI: "postgres://h/?dbname=a%20b+c'd%2520e&user=a%20b+c'd%2520e"},
	} {
		s := server(t, migration.Source, e)
		if s.Database() != odd || s.Address() != odd+"@h:5432/"+odd {
			t.Errorf("%s: %s", form, s.Address())
		}
	}
}

// Settings of a role, a database or the environment must not change how values read or how long we may work.
func TestCanonicalSettingsWinOverRoleAndDatabase(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	hostile := fmt.Sprintf(`
		alter database "%[1]s" set datestyle = 'German'; alter database "%[1]s" set statement_timeout = 20000;
		alter database "%[1]s" set search_path = evil; alter database "%[1]s" set default_transaction_read_only = on;
		alter database "%[1]s" set timezone = 'Asia/Kathmandu'; alter database "%[1]s" set extra_float_digits = -5;
		alter database "%[1]s" set lock_timeout = 20000`, db.Name)
	if serverVersion(t, db) >= 140000 {
		hostile += fmt.Sprintf(`; alter database "%s" set idle_session_timeout = 50`, db.Name)
	}
	db.Exec(t, hostile)
	s := server(t, migration.Source, migration.Endpoint{URI: db.URI + "?options=-c%20search_path%3Dmischief"})
	conn, err := s.Connect(t.Context(), "pgdts/x/copy-1/7")
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close(conn)
	for setting, want := range map[string]string{
		"datestyle": "ISO, YMD", "statement_timeout": "0", "search_path": "pg_catalog", "default_transaction_read_only": "off",
		"timezone": "UTC", "extra_float_digits": "3", "lock_timeout": "0", "row_security": "off", "idle_session_timeout": "0",
		"application_name": "pgdts/x/copy-1/7", "transaction_timeout": "0",
	} {
		var got *string
		if err := conn.QueryRow(t.Context(), "select current_setting($1, true)", setting).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != nil && *got != want {
			t.Errorf("%s is %s, not %s", setting, *got, want)
		}
	}
	stream, err := s.Replication(t.Context(), "pgdts/x/stream/7", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close(context.Background()) }()
	results, err := stream.Exec(t.Context(), "select current_setting('idle_session_timeout', true)").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(results[0].Rows[0][0]); got != "0" && got != "" {
		t.Errorf("a paused stream would end after %s", got)
	}
}

func serverVersion(t *testing.T, db *pgtest.DB) int {
	t.Helper()
	return pgtest.Value[int](t, db, "select current_setting('server_version_num')::int")
}

// The stream stands between the socket and the protocol.
func TestReplicationSessionIsWrapped(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	s := server(t, migration.Source, migration.Endpoint{URI: db.URI})
	wrapped := 0
	conn, err := s.Replication(t.Context(), "pgdts/x/stream/1", func(conn net.Conn) net.Conn { wrapped++; return conn })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	results, err := conn.Exec(t.Context(), "IDENTIFY_SYSTEM").ReadAll()
	if err != nil || len(results) != 1 || wrapped == 0 {
		t.Errorf("%d results, wrapped %d times: %v", len(results), wrapped, err)
	}
}

func TestReplicationWithoutTheRight(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	db.Exec(t, `create role plain_replicator login`)
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), db.URI)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close(context.Background()) }()
		_, _ = conn.Exec(context.Background(), `drop role plain_replicator`)
	})
	s := server(t, migration.Source, migration.Endpoint{URI: strings.Replace(db.URI, "postgres@", "plain_replicator@", 1)})
	_, err := s.Replication(t.Context(), "x", nil)
	fault := mustBe(t, err, migration.FaultPrivilege)
	if pg.RefusalOf(err) != pg.RefusedRight || !strings.Contains(fault.Hint, `alter role "plain_replicator" replication;`) {
		t.Errorf("%+v", fault)
	}
}
