package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// hunt looks for secrets wherever a migration leaves something that somebody else may read.
type hunt struct {
	t       *testing.T
	secrets []string
	forms   map[string]string // what is looked for: the form by which a secret shows
	stop    context.CancelFunc
	done    sync.WaitGroup

	mu     sync.Mutex
	found  map[string]bool
	looked map[string]int
	latest []byte // of the failures that Temporal describes
}

func newHunt(t *testing.T, secrets ...string) *hunt {
	h := &hunt{t: t, secrets: secrets, forms: map[string]string{}, found: map[string]bool{}, looked: map[string]int{}, stop: func() {}}
	for _, secret := range secrets {
		h.forms[secret] = secret
		h.forms[url.QueryEscape(secret)] = secret
		h.forms[url.PathEscape(secret)] = secret
		h.forms[hex.EncodeToString([]byte(secret))] = secret
		for shift := range 3 { // what base64 of a text around it has in common, wherever it stands
			encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
			h.forms[encoded[[]int{0, 2, 3}[shift]:len(encoded)-2]] = secret
		}
	}
	return h
}

// in notes which secrets a text shows.
func (h *hunt) in(where string, text []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looked[where]++
	for form, secret := range h.forms {
		if at := bytes.Index(text, []byte(form)); at >= 0 {
			h.found[fmt.Sprintf("%s shows %s: …%q…", where, secret, text[max(0, at-80):min(len(text), at+len(form)+20)])] = true
		}
	}
}

// below looks at every file of a directory.
func (h *hunt) below(where, dir string) {
	h.t.Helper()
	require.NoError(h.t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		h.in(where, append([]byte(path+"\n"), content...))
		return err
	}))
}

// watch looks at what is there for a moment only, again and again: arguments of processes, sessions, statements, the
// ledger, and what Temporal tells of running activities.
func (h *hunt) watch(s *scenario, temporal func() string) {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	h.t.Cleanup(func() {
		cancel()
		h.done.Wait()
	})
	loop := func(look func(context.Context)) {
		h.done.Go(func() {
			for ctx.Err() == nil {
				look(ctx)
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	loop(h.arguments)
	for _, db := range []*pgtest.DB{s.from, s.to} {
		loop(func(ctx context.Context) { h.sessions(ctx, db.URI) })
	}
	loop(func(ctx context.Context) { h.describe(ctx, temporal()) })
}

func (h *hunt) arguments(context.Context) {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		if content, err := os.ReadFile(path); err == nil && len(content) > 0 {
			if bytes.Contains(content, []byte("pg_dump")) && !bytes.Contains(content, []byte("--version")) {
				h.in("arguments of pg_dump", content)
			}
			h.in("arguments", content)
		}
	}
}

// ourSessions are those of the migration: the test itself, which sets passwords, and the clients work as postgres.
const ourSessions = `select coalesce(string_agg(application_name || ' ' || query, e'\n'), '') from pg_stat_activity where usename in ('mover', 'owner')`

const everyRow = `select coalesce(string_agg(query_to_xml(format('select * from dts_sync.%I', tablename), true, true, '')::text, e'\n'), '')
	from pg_tables where schemaname = 'dts_sync'`

func (h *hunt) sessions(ctx context.Context, uri string) {
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for where, query := range map[string]string{"sessions": ourSessions, "ledger": everyRow} {
		var text string
		if conn.QueryRow(ctx, query).Scan(&text) == nil && text != "" {
			h.in(where, []byte(text))
		}
	}
	time.Sleep(20 * time.Millisecond) // a session is dear
}

// describe reads heartbeats, last failures and the memo of what runs.
func (h *hunt) describe(ctx context.Context, address string) {
	if address == "" {
		return
	}
	c, err := client.DialContext(ctx, client.Options{HostPort: address})
	if err != nil {
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		list, err := c.ListOpenWorkflow(ctx, &workflowservice.ListOpenWorkflowExecutionsRequest{})
		if err != nil {
			return
		}
		for _, execution := range list.GetExecutions() {
			described, err := c.DescribeWorkflowExecution(ctx, execution.GetExecution().GetWorkflowId(), "")
			if err != nil {
				continue
			}
			text, err := protojson.Marshal(described)
			if err == nil {
				h.in("description", text)
			}
			for _, activity := range described.GetPendingActivities() {
				if activity.GetHeartbeatDetails() != nil {
					h.in("heartbeats", text)
				}
				if activity.GetLastFailure() != nil {
					h.in("failures", text)
					h.mu.Lock()
					h.latest = text
					h.mu.Unlock()
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// awaitFailure waits until an attempt has failed with these words: the probe that waits for a server tells only Temporal.
func (h *hunt) awaitFailure(words string) {
	h.t.Helper()
	require.Eventually(h.t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return bytes.Contains(h.latest, []byte(words))
	}, 2*time.Minute, 20*time.Millisecond, words)
}

// mustHaveFoundNothing ends the hunt. It must have looked everywhere.
func (h *hunt) mustHaveFoundNothing(places ...string) {
	h.t.Helper()
	h.stop()
	h.done.Wait()
	for _, place := range places {
		require.Positive(h.t, h.looked[place], "nothing was seen of %s", place)
	}
	for what := range h.found {
		h.t.Error(what)
	}
	h.t.Logf("looked: %v", h.looked)
}

// guard lets a role into a server with its password and its certificate only.
func guard(t *testing.T, authority *pgtest.Authority, server *pgserver.Server, db *pgtest.DB, role, password string) {
	t.Helper()
	db.Exec(t, fmt.Sprintf("create role %s superuser login replication password '%s'", role, password))
	_, err := server.Put("pg_hba.conf", []byte("local all all trust\nhost all,replication postgres 127.0.0.1/32 trust\n"+
		"hostssl all,replication "+role+" 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n"))
	require.NoError(t, err)
	authority.Encrypt(t, server, pgtest.Holder{Hosts: []string{"127.0.0.1"}})
}

// sslFiles are what a client needs, with its key under a password.
func sslFiles(t *testing.T, authority *pgtest.Authority, dir, role, keyPassword string) (ca, cert, key string) {
	t.Helper()
	ca = pgtest.WriteSecret(t, dir, "ca.pem", authority.PEM)
	cert, key = authority.Client(t, dir, keyPassword, pgtest.Holder{CommonName: role})
	return ca, cert, key
}

// A run with every kind of secret, through a changed password, lost connections and a statement that fails: it goes on by
// itself each time, and no secret is to be found anywhere.
func TestSecretsOfRunAreNowhere(t *testing.T) {
	const (
		first, second = "Source-Word-Alpha", "Source-Word-Beta"
		sourceKey     = "Source-Key-Gamma"
		typed         = "Typed+Word/Delta"
		typedKey      = "Typed-Key%Epsilon"
	)
	s := newScenario(t, "")
	authority := pgtest.NewAuthority(t)
	guard(t, authority, s.source, s.from, "mover", first)
	guard(t, authority, s.target, s.to, "owner", typed)
	ca, cert, key := sslFiles(t, authority, s.dir, "mover", sourceKey)
	_, ownerCert, ownerKey := sslFiles(t, authority, s.dir, "owner", typedKey)
	word := pgtest.WriteSecret(t, s.dir, "word", []byte(first))
	keyWord := pgtest.WriteSecret(t, s.dir, "key-word", []byte(sourceKey+"\n"))
	connections := pgtest.WriteSecret(t, s.dir, "connections.yaml", fmt.Appendf(nil, `connections:
  old-shop:
    {host: 127.0.0.1, port: %d, database: %s, user: mover, passwordFrom: {command: [cat, %s]},
     ssl: {mode: verify-full, ca: %s, cert: %s, key: %s, keyPasswordFrom: {file: %s}}}
`, s.source.Port(), s.from.Name, word, ca, cert, key, keyWord))
	require.NoError(t, os.WriteFile(s.file, fmt.Appendf(nil, "name: shop\nsource: {connection: old-shop}\ntarget: {uri: %q}\n",
		fmt.Sprintf("postgres://owner:%s@127.0.0.1:%d/%s?sslmode=verify-full&sslrootcert=%s&sslcert=%s&sslkey=%s&sslpassword=%s",
			url.PathEscape(typed), s.target.Port(), s.to.Name, ca, ownerCert, ownerKey, url.QueryEscape(typedKey))), 0o600))
	temporary := t.TempDir()
	s.env = []string{"PGDTS_CONNECTIONS=" + connections, "TMPDIR=" + temporary}
	h := newHunt(t, first, second, sourceKey, typed, typedKey)
	h.watch(s, s.livingTemporal)

	writers := s.writers(11)
	p := s.start(nil, "run", "-f", s.file, "--log-level", "debug")
	s.await(p, "caught up", func(status migration.Status) bool {
		return status.Phase == migration.PhaseIncremental && status.CaughtUp
	})
	back := func() {
		t.Helper()
		s.await(p, "caught up again", func(status migration.Status) bool { return status.Outage == nil && status.CaughtUp })
	}

	end := "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = '%s'"
	s.from.Exec(t, fmt.Sprintf("alter role mover password '%s'", second))
	s.from.Exec(t, fmt.Sprintf(end, "mover"))
	h.awaitFailure("password of role")
	status := s.await(p, "an outage", func(status migration.Status) bool { return status.Outage != nil })
	require.Greater(t, status.Outage.WindowLeftSeconds, (700 * time.Minute).Seconds(), "it counts in the connection window")
	require.NoError(t, os.Remove(word))
	h.awaitFailure("command cat ended with exit status 1")
	pgtest.WriteSecret(t, s.dir, "word", []byte(second))
	back()

	s.to.Exec(t, fmt.Sprintf(end, "owner"))
	s.from.Exec(t, fmt.Sprintf(end, "mover"))
	back()
	s.to.Exec(t, "alter table load.audit add constraint nobody check (client < 0) not valid")
	s.await(p, "a statement that fails", func(status migration.Status) bool { return status.Attention != nil })
	s.to.Exec(t, "alter table load.audit drop constraint nobody")
	code, _, errs := s.run("resume", "-f", s.file)
	require.Equal(t, 0, code, errs)
	back()

	for _, args := range [][]string{{"inspect", "-f", s.file}, {"status", "-f", s.file}, {"tables", "-f", s.file}, {"objects", "-f", s.file}, {"preview", "-f", s.file}, {"check", "-f", s.file}} {
		_, out, errs := s.run(append(args, "-o", "json", "--log-level", "debug")...)
		h.in("output of "+args[0], []byte(out+errs))
	}
	code, _, errs = s.run("cutover", "-f", s.file)
	require.Equal(t, 0, code, errs)
	require.Equal(t, 0, p.wait(timeLimit))
	s.mustBeEqual(writers.Stop())
	s.mustLeaveNothing()

	h.in("output of run", []byte(p.out.String()+p.err.String()))
	h.below("state directory", filepath.Join(s.dir, "state"))
	h.in("history", s.history(t))
	s.withTemporal(t, func(address string) {
		out, err := exec.Command(temporalPath(t), "workflow", "show", "--address", address, "-w", string(s.report().ID)).Output()
		require.NoError(t, err)
		h.in("history as text", out)
	})
	h.below("temporary files", temporary)
	left, err := filepath.Glob(filepath.Join(temporary, "pgdts-*"))
	require.NoError(t, err)
	left = slices.DeleteFunc(left, func(path string) bool { return strings.HasSuffix(path, ".ports") }) // by which runs share out ports
	require.Empty(t, left)
	h.mustHaveFoundNothing("arguments of pg_dump", "sessions", "ledger", "description", "heartbeats", "failures", "output of run", "state directory", "history")
}

// livingTemporal is the address of the service that a run has started, once it is up.
func (s *scenario) livingTemporal() string {
	var found struct{ Address string }
	content, err := os.ReadFile(filepath.Join(s.dir, "state", "address.json"))
	if err != nil || json.Unmarshal(content, &found) != nil {
		return ""
	}
	return found.Address
}

// The same for a worker that serves others: secrets come from its environment, its files and its connections, and what is
// started from elsewhere names none.
func TestSecretsOfWorkerAreNowhere(t *testing.T) {
	const (
		envWord, envKey = "Env-Word-Zeta", "Env-Key-Eta"
		fileWord        = "File-Word-Theta"
	)
	file := filepath.Join(t.TempDir(), "temporal.db")
	s := newScenario(t, "")
	authority := pgtest.NewAuthority(t)
	guard(t, authority, s.source, s.from, "mover", envWord)
	guard(t, authority, s.target, s.to, "mover", fileWord)
	ca, cert, key := sslFiles(t, authority, s.dir, "mover", envKey)
	connections := pgtest.WriteSecret(t, s.dir, "connections.yaml", fmt.Appendf(nil, `connections:
  new-shop:
    host: 127.0.0.1
    port: %d
    database: %s
    user: mover
    passwordFrom: {file: word}
    ssl: {mode: verify-full, ca: ca.pem, cert: mover.pem, key: mover.key, keyPasswordFrom: {env: KEY_WORD}}
`, s.target.Port(), s.to.Name))
	pgtest.WriteSecret(t, s.dir, "word", []byte(fileWord+"\n"))
	require.NoError(t, os.WriteFile(s.file, fmt.Appendf(nil,
		"name: shop\nsource: {uri: \"postgres://mover@127.0.0.1:%d/%s\", passwordFrom: {env: SOURCE_WORD}, ssl: {mode: verify-full, keyPasswordFrom: {env: KEY_WORD}}}\n"+
			"target: {connection: new-shop}\n", s.source.Port(), s.from.Name), 0o600))
	h := newHunt(t, envWord, envKey, fileWord)
	temporary := t.TempDir()
	serveTemporal(t, file, func(address string) {
		s.env = []string{"TEMPORAL_ADDRESS=" + address}
		h.watch(s, func() string { return address })
		writers := s.writers(12)
		secrets := []string{"SOURCE_WORD=" + envWord, "KEY_WORD=" + envKey, "PGSSLROOTCERT=" + ca, "PGSSLCERT=" + cert, "PGSSLKEY=" + key, "TMPDIR=" + temporary}
		worker := s.start(secrets, "worker", "--connections", connections, "--log-level", "debug")
		code, out, errs := s.run("start", "-f", s.file)
		require.Equal(t, 0, code, errs)
		id := lastWord(out, "pgdts/shop/")
		s.awaitID(worker, id, "caught up", func(status migration.Status) bool {
			return status.Phase == migration.PhaseIncremental && status.CaughtUp
		})

		// It leaves, and one comes that knows no connections: nothing is lost by that.
		require.NoError(t, worker.Process.Signal(syscall.SIGTERM))
		worker.wait(time.Minute)
		worker = s.start(secrets, "worker", "--log-level", "debug")
		s.awaitID(worker, id, "a connection that is not known", func(status migration.Status) bool {
			return status.Outage != nil && status.Outage.Kind == migration.FaultUnauthorized && strings.Contains(status.Outage.Error, "knows no connection new-shop")
		})
		require.NoError(t, worker.Process.Signal(syscall.SIGTERM))
		worker.wait(time.Minute)
		worker = s.start(secrets, "worker", "--connections", connections, "--log-level", "debug")
		s.awaitID(worker, id, "caught up again", func(status migration.Status) bool { return status.Outage == nil && status.CaughtUp })
		code, _, errs = s.run("cutover", id)
		require.Equal(t, 0, code, errs)
		s.awaitID(worker, id, "finished", func(status migration.Status) bool { return status.Phase == migration.PhaseFinished })
		s.mustBeEqual(writers.Stop())
		history, err := exec.Command(temporalPath(t), "workflow", "show", "--address", address, "-w", id, "-o", "json").Output()
		require.NoError(t, err)
		h.in("history", history)
		require.NoError(t, worker.Process.Kill())
		worker.wait(10 * time.Second)
		h.in("log of worker", []byte(worker.out.String()+worker.err.String()))
	})
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	h.in("database of Temporal", content)
	h.below("temporary files", temporary)
	h.mustHaveFoundNothing("arguments of pg_dump", "sessions", "ledger", "description", "heartbeats", "history", "log of worker", "database of Temporal")
}
