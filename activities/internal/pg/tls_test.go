package pg_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// encrypted is a server with TLS, an authority that it trusts and is signed by, and roles with rules of their own.
type encrypted struct {
	*pgtest.DB
	authority *pgtest.Authority
	files     string
	ca        string
}

func newEncrypted(t *testing.T) encrypted {
	t.Helper()
	db := withRules(
		t, "host all postgres 127.0.0.1/32 trust", "hostssl all demanding 127.0.0.1/32 trust clientcert=verify-ca",
		"hostssl all holder 127.0.0.1/32 cert", "hostssl all other 127.0.0.1/32 cert", "hostssl replication,all guarded 127.0.0.1/32 scram-sha-256 clientcert=verify-ca")
	db.Exec(t, `create role demanding login superuser; create role holder login replication; create role other login;
		create role guarded login replication superuser password 'right'`)
	e := encrypted{DB: db, authority: pgtest.NewAuthority(t), files: t.TempDir()}
	e.authority.Encrypt(t, db.Server, pgtest.Holder{CommonName: "server", Hosts: []string{"127.0.0.1"}})
	e.ca = pgtest.WriteSecret(t, e.files, "ca.pem", e.authority.PEM)
	return e
}

// as is an endpoint of the server for a role.
func (e encrypted) as(role string, ssl migration.SSL) migration.Endpoint {
	return migration.Endpoint{Host: "127.0.0.1", Port: e.Server.Port(), Database: e.Name, User: role, SSL: &ssl}
}

// Each of the ways in which certificates fail is told apart, with its own remedy.
func TestCertificates(t *testing.T) {
	t.Parallel()
	e := newEncrypted(t)
	foreign := pgtest.NewAuthority(t)
	otherCA := pgtest.WriteSecret(t, e.files, "other-ca.pem", foreign.PEM)
	cert, key := e.authority.Client(t, e.files, "", pgtest.Holder{CommonName: "holder"})
	_, locked := e.authority.Client(t, t.TempDir(), "open-sesame", pgtest.Holder{CommonName: "holder"})
	_, otherKey := e.authority.Client(t, e.files, "", pgtest.Holder{CommonName: "unrelated"})
	strange, strangeKey := foreign.Client(t, e.files, "", pgtest.Holder{CommonName: "stranger"})
	late, lateKey := e.authority.Client(t, e.files, "", pgtest.Holder{CommonName: "late", From: time.Now().Add(-2 * time.Hour), To: time.Now().Add(-time.Hour)})
	wrong := pgtest.WriteSecret(t, e.files, "wrong-password", []byte("open-barley\n"))
	text := pgtest.WriteSecret(t, e.files, "text", []byte("no certificate"))
	open := pgtest.WriteSecret(t, e.files, "open.key", []byte("x"))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		role  string
		ssl   migration.SSL
		kind  migration.FaultKind
		cause pg.Refusal
		words []string
	}{
		"wrong authority":     {"postgres", migration.SSL{Mode: "verify-full", CA: otherCA}, migration.FaultConnection, pg.RefusedAuthority, []string{"not trusted here", "source.ssl.ca"}},
		"wrong, verify-ca":    {"postgres", migration.SSL{Mode: "verify-ca", CA: otherCA}, migration.FaultConnection, pg.RefusedAuthority, []string{"not trusted here"}},
		"wrong, require":      {"postgres", migration.SSL{Mode: "require", CA: otherCA}, migration.FaultConnection, pg.RefusedAuthority, []string{"not trusted here"}},
		"the system's":        {"postgres", migration.SSL{Mode: "verify-full", CA: "system"}, migration.FaultConnection, pg.RefusedAuthority, []string{"not trusted here"}},
		"no authority":        {"postgres", migration.SSL{Mode: "verify-full"}, migration.FaultUnauthorized, pg.RefusedFile, []string{"no authority to trust", "source.ssl.ca", "system"}},
		"missing authority":   {"postgres", migration.SSL{Mode: "verify-full", CA: e.files + "/none.pem"}, migration.FaultUnauthorized, pg.RefusedFile, []string{"/none.pem cannot be read", "no such file", "source.ssl.ca"}},
		"unreadable":          {"postgres", migration.SSL{CA: e.files}, migration.FaultUnauthorized, pg.RefusedFile, []string{"is a directory", "source.ssl.ca"}},
		"no PEM authority":    {"postgres", migration.SSL{Mode: "verify-full", CA: text}, migration.FaultUnauthorized, pg.RefusedFile, []string{"holds no certificate", "source.ssl.ca"}},
		"missing certificate": {"holder", migration.SSL{Cert: e.files + "/none.pem", Key: key}, migration.FaultUnauthorized, pg.RefusedFile, []string{"the client certificate", "no such file", "source.ssl.cert"}},
		"missing key":         {"holder", migration.SSL{Cert: cert, Key: e.files + "/none.key"}, migration.FaultUnauthorized, pg.RefusedFile, []string{"the key of the client certificate", "no such file", "source.ssl.key"}},
		"no key named":        {"holder", migration.SSL{Cert: cert}, migration.FaultUnauthorized, pg.RefusedFile, []string{"only with its key", "source.ssl.key"}},
		"open key":            {"holder", migration.SSL{Cert: cert, Key: open}, migration.FaultUnauthorized, pg.RefusedFile, []string{"may be read by others", "chmod 0600 " + open}},
		"no certificate":      {"holder", migration.SSL{Cert: text, Key: key}, migration.FaultUnauthorized, pg.RefusedFile, []string{"holds no certificate"}},
		"no key":              {"holder", migration.SSL{Cert: cert, Key: text}, migration.FaultUnauthorized, pg.RefusedKey, []string{"holds no private key"}},
		"key of another":      {"holder", migration.SSL{Cert: cert, Key: otherKey}, migration.FaultUnauthorized, pg.RefusedKey, []string{"does not fit the client certificate"}},
		"no key password":     {"holder", migration.SSL{Cert: cert, Key: locked}, migration.FaultUnauthorized, pg.RefusedKeyPassword, []string{"is encrypted and no password", "source.ssl.keyPasswordFrom"}},
		"wrong key password":  {"holder", migration.SSL{Cert: cert, Key: locked, KeyPasswordFrom: &migration.SecretRef{File: wrong}}, migration.FaultUnauthorized, pg.RefusedKeyPassword, []string{"password of the key", "is wrong", "source.ssl.keyPasswordFrom"}},
		"demanded":            {"demanding", migration.SSL{Mode: "require"}, migration.FaultUnauthorized, pg.RefusedNoCertificate, []string{"demands a client certificate and none was given", "source.ssl.cert"}},
		"of a stranger":       {"demanding", migration.SSL{Mode: "require", Cert: strange, Key: strangeKey}, migration.FaultConnection, pg.RefusedCertificate, []string{"does not accept the client certificate", "CN stranger", "unknown certificate authority", "ssl_ca_file"}},
		"expired of ours":     {"demanding", migration.SSL{Mode: "require", Cert: late, Key: lateKey}, migration.FaultConnection, pg.RefusedCertificate, []string{"does not accept the client certificate", "CN late", "expired"}},
		"of another role":     {"other", migration.SSL{Mode: "require", Cert: cert, Key: key}, migration.FaultUnauthorized, pg.RefusedHolder, []string{"CN holder", `role "other"`, "pg_ident.conf"}},
		"no rule with one":    {"unheard_of", migration.SSL{Mode: "require", Cert: cert, Key: key}, migration.FaultUnauthorized, pg.RefusedRule, []string{"pg_hba.conf"}},
	} {
		t.Run(name, func(t *testing.T) {
			fault := refused(t, server(t, migration.Source, e.as(test.role, test.ssl)), test.kind, test.cause, test.words...)
			if strings.Contains(fault.Error(), "open-") {
				t.Errorf("the password is told: %s", fault.Error())
			}
		})
	}
	verify := e.as("postgres", migration.SSL{Mode: "verify-full", CA: e.ca})
	e.authority.Encrypt(t, e.Server, pgtest.Holder{Hosts: []string{"db.example.com"}})
	refused(t, server(t, migration.Target, verify), migration.FaultConnection, pg.RefusedHostName, "is for db.example.com, not for 127.0.0.1", "verify-ca")
	e.authority.Encrypt(t, e.Server, pgtest.Holder{CommonName: "127.0.0.1"})
	refused(t, server(t, migration.Target, verify), migration.FaultConnection, pg.RefusedHostName, "no host name at all", "subjectAltName")
	mustConnect(t, e.as("postgres", migration.SSL{Mode: "verify-ca", CA: e.ca}))
	e.authority.Encrypt(t, e.Server, pgtest.Holder{Hosts: []string{"127.0.0.1"}, From: time.Now().Add(-2 * time.Hour), To: time.Now().Add(-time.Hour)})
	refused(t, server(t, migration.Target, verify), migration.FaultConnection, pg.RefusedExpired, "expired at", "renew")
	e.authority.Encrypt(t, e.Server, pgtest.Holder{Hosts: []string{"127.0.0.1"}, From: time.Now().Add(time.Hour), To: time.Now().Add(2 * time.Hour)})
	refused(t, server(t, migration.Target, verify), migration.FaultConnection, pg.RefusedExpired, "is not valid before", "clock")
	if err := e.Server.Set(t.Context(), "ssl", "off"); err != nil {
		t.Fatal(err)
	}
	refused(t, server(t, migration.Target, verify), migration.FaultConnection, pg.RefusedNoTLS, "TLS switched off", "target.ssl.mode")
}

func mustConnect(t *testing.T, e migration.Endpoint) *pgx.Conn {
	t.Helper()
	conn, err := server(t, migration.Source, e).Connect(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Close(conn) })
	return conn
}

// All three kinds of connections come through in every mode, with an encrypted key too: ordinary, replication, pg_dump.
func TestEveryModeForAllConnections(t *testing.T) {
	t.Parallel()
	e := newEncrypted(t)
	const keyWord = "key word = 'x # \\ %"
	cert, key := e.authority.Client(t, e.files, keyWord, pgtest.Holder{CommonName: "guarded"})
	keyFile := pgtest.WriteSecret(t, e.files, "key-word", []byte(keyWord+"\n"))
	passFile := pgtest.WriteSecret(t, e.files, "pass-word", []byte("right"))
	with := func(mode, ca string) migration.Endpoint {
		end := e.as("guarded", migration.SSL{Mode: mode, CA: ca, Cert: cert, Key: key, KeyPasswordFrom: &migration.SecretRef{File: keyFile}})
		end.PasswordFrom = &migration.SecretRef{File: passFile}
		return end
	}
	for name, end := range map[string]migration.Endpoint{
		"allow": with("allow", ""), "prefer": with("prefer", ""), "default": with("", ""), "require": with("require", ""),
		"require with authority": with("require", e.ca), "verify-ca": with("verify-ca", e.ca), "verify-full": with("verify-full", e.ca),
		"disable": e.as("postgres", migration.SSL{Mode: "disable"}),
		"by URI": {
			URI: fmt.Sprintf("postgres://guarded:right@127.0.0.1:%d/%s?sslmode=verify-full&sslrootcert=%s&sslcert=%s&sslkey=%s&sslpassword=%s",
				e.Server.Port(), e.Name, e.ca, cert, key, url.PathEscape(keyWord)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := mustConnect(t, end)
			isTLS := func(pid uint32) bool {
				return pgtest.Value[bool](t, e.DB, fmt.Sprintf("select ssl from pg_stat_ssl where pid = %d", pid))
			}
			if got := isTLS(conn.PgConn().PID()); got != (name != "disable") {
				t.Errorf("the session is encrypted: %v", got)
			}
			stream, err := server(t, migration.Source, end).Replication(t.Context(), "test", nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := isTLS(stream.PID()); got != (name != "disable") {
				t.Errorf("the stream is encrypted: %v", got)
			}
			_ = stream.Close(t.Context())
			if out := runLibpq(t, e.DB, end, conn, "pg_dump", "--schema-only", "--no-password"); !strings.Contains(out, "PostgreSQL database dump complete") {
				t.Errorf("pg_dump: %s", out)
			}
		})
	}
}

// runLibpq runs a program against the server of a session.
func runLibpq(t *testing.T, db *pgtest.DB, end migration.Endpoint, conn *pgx.Conn, program string, arguments ...string) string {
	t.Helper()
	way, err := server(t, migration.Source, end).Program(t.Context(), conn, "-c standard_conforming_strings=on")
	if err != nil {
		t.Fatal(err)
	}
	defer way.Close()
	command := exec.CommandContext(t.Context(), db.Server.Binaries.Path(program), arguments...)
	command.Env, command.ExtraFiles, command.Dir = way.Env, way.Files, t.TempDir()
	out, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v: %s", program, err, out)
	}
	return string(out)
}

// What openssl writes is read, old forms and new ones; what is not read is said to be so, and is no wrong password.
func TestFormsOfEncryptedKeys(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/keys/*.pem")
	if err != nil || len(paths) == 0 {
		t.Fatal("no keys")
	}
	dir := t.TempDir()
	cert, _ := pgtest.NewAuthority(t).Client(t, dir, "", pgtest.Holder{CommonName: "other"})
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".pem"), func(t *testing.T) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			key := pgtest.WriteSecret(t, dir, filepath.Base(path), content)
			attempt := func(password string, cause pg.Refusal, words ...string) {
				t.Helper()
				from := pgtest.WriteSecret(t, t.TempDir(), "password", []byte(password))
				end := migration.Endpoint{Host: "127.0.0.1", Port: 1, SSL: &migration.SSL{Cert: cert, Key: key, KeyPasswordFrom: &migration.SecretRef{File: from}}}
				refused(t, server(t, migration.Source, end), migration.FaultUnauthorized, cause, words...)
			}
			if strings.HasPrefix(filepath.Base(path), "unsupported") {
				attempt("open-sesame", pg.RefusedKey, "is not supported", "openssl pkcs8 -topk8")
				return
			}
			attempt("open-sesame", pg.RefusedKey, "does not fit the client certificate") // so it was read
			for _, wrong := range []string{"open-barley", "x", "open-sesame "} {
				attempt(wrong, pg.RefusedKeyPassword, "is wrong")
			}
		})
	}
}
