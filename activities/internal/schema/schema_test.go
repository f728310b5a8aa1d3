package schema_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// everything is the order of work of a whole migration.
var everything = []string{schema.Before, schema.Key, schema.Index, schema.Constraint, schema.Opening, schema.After}

func fixture(t *testing.T, paths ...string) string {
	t.Helper()
	var text strings.Builder
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(content)
	}
	return text.String()
}

const shop = "../../../tests/fixtures/shop.sql"

// move is one migration's schema on its way.
type move struct {
	source, target *pgtest.DB
	cfg            schema.Config
	led            ledger.Ledger
}

func newMove(t *testing.T, sql string) *move {
	t.Helper()
	return newMoveBetween(t, pgtest.Shared(t), pgtest.Shared(t), sql)
}

func newMoveBetween(t *testing.T, from, to *pgserver.Server, sql string) *move {
	t.Helper()
	return newMoveBetweenDatabases(t, pgtest.Database(t, from), pgtest.Database(t, to), sql)
}

func newMoveBetweenDatabases(t *testing.T, from, to *pgtest.DB, sql string) *move {
	t.Helper()
	m := &move{source: from, target: to}
	apply(t, m.source, sql)
	id := migration.RandomID("schema")
	conn := m.target.Conn(t)
	m.led = ledger.Ledger{ID: id, Conn: conn}
	if err := ledger.Create(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if err := m.led.Acquire(t.Context(), "run", migration.Spec{ID: id}); err != nil {
		t.Fatal(err)
	}
	m.cfg = schema.Config{
		Source: endpoint(t, migration.Source, m.source.URI), Target: endpoint(t, migration.Target, m.target.URI),
		Spec: migration.Spec{ID: id, Schema: migration.SchemaPolicy{Owner: "target", OnObjectFailure: "wait"}}, Parallel: 3,
		Report: func(migration.Beat) {}, Log: zap.NewNop(),
	}
	m.enter(t)
	return m
}

// apply does not show the whole text when a statement of it fails.
func apply(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	if _, err := db.Conn(t).Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func endpoint(t *testing.T, side migration.Side, uri string) *pg.Server {
	t.Helper()
	if _, err := url.Parse(uri); err != nil {
		t.Fatal(err)
	}
	server, err := pg.NewServer(side, migration.Endpoint{URI: uri}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// enter is what a new attempt does first.
func (m *move) enter(t *testing.T) {
	t.Helper()
	lane, err := m.led.Enter(t.Context(), "run", "schema")
	if err != nil {
		t.Fatal(err)
	}
	m.cfg.Lane = lane
}

func (m *move) load(t *testing.T) {
	t.Helper()
	if err := schema.Load(t.Context(), m.cfg); err != nil {
		t.Fatal(err)
	}
}

func (m *move) create(t *testing.T, sections ...string) {
	t.Helper()
	for _, section := range sections {
		if _, _, err := schema.Create(t.Context(), m.cfg, section, schema.Options{}); err != nil {
			t.Fatalf("create %s: %v", section, err)
		}
	}
}

func (m *move) mustBeEqual(t *testing.T, options ...string) {
	t.Helper()
	source, target := dumpOf(t, m.source, options...), dumpOf(t, m.target, options...)
	if source != target {
		t.Fatalf("schemas differ:\n%s", diff(t, source, target))
	}
	if len(source) < 1000 {
		t.Fatalf("a dump of %d bytes compares nothing", len(source))
	}
}

// tokens are what recent versions of pg_dump write against injection, fresh in every dump, and the server's version.
var tokens = regexp.MustCompile(`(?m)^(\\(un)?restrict|-- Dumped from) .*$`)

// spellings are what a version before 12 does not know and a later one says: the same objects in other words.
var spellings = strings.NewReplacer("SET default_table_access_method = heap;\n\n", "", "EXECUTE PROCEDURE", "EXECUTE FUNCTION")

func dumpOf(t *testing.T, db *pgtest.DB, options ...string) string {
	t.Helper()
	path, _, err := schema.FindDump(150000)
	if err != nil {
		t.Fatal(err)
	}
	options = append(options, "--schema-only", "--no-publications", "--exclude-schema=dts_sync", "--dbname="+db.URI)
	out, err := exec.CommandContext(t.Context(), path, options...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return spellings.Replace(tokens.ReplaceAllString(string(out), ""))
}

func diff(t *testing.T, source, target string) string {
	t.Helper()
	left, right := t.TempDir()+"/source", t.TempDir()+"/target"
	for path, text := range map[string]string{left: source, right: target} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, _ := exec.CommandContext(t.Context(), "diff", "-u", left, right).Output()
	return string(out)
}

// What pg_restore lists of the same archive is what we read.
func TestNoEntryIsReadDifferentlyThanByPostgres(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	apply(t, db, fixture(t, shop, "testdata/rich.sql"))
	path, _, err := schema.FindDump(150000)
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/archive"
	for _, extra := range [][]string{{"--schema-only"}, {"--compress=9"}} {
		args := append([]string{"--format=custom", "--file=" + file, "--dbname=" + db.URI}, extra...)
		if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		content, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		archive, err := schema.ReadArchive(content)
		_ = content.Close()
		if err != nil {
			t.Fatal(err)
		}
		if ours, theirs := listing(archive), restoreListing(t, path, file); ours != theirs {
			t.Fatalf("listings differ:\n%s", diff(t, theirs, ours))
		}
		if !strings.HasPrefix(archive.ServerVersion, "1") || len(archive.Entries) < 200 {
			t.Fatalf("read server version %q and %d entries", archive.ServerVersion, len(archive.Entries))
		}
	}
}

func listing(archive schema.Archive) string {
	var list strings.Builder
	oneLine := strings.NewReplacer("\n", " ", "\r", " ").Replace
	for _, e := range archive.Entries {
		if e.Kind == "ENCODING" || e.Kind == "STDSTRINGS" || e.Kind == "SEARCHPATH" || e.Kind == "DATABASE" {
			continue
		}
		namespace := e.Schema
		if namespace == "" {
			namespace = "-"
		}
		fmt.Fprintf(&list, "%d; %d %d %s %s %s %s\n", e.ID, e.TableOID, e.OID, e.Kind, oneLine(namespace), oneLine(e.Tag), oneLine(e.Owner))
	}
	return list.String()
}

func restoreListing(t *testing.T, dump, file string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), strings.TrimSuffix(dump, "pg_dump")+"pg_restore", "--list", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, ";") {
			list.WriteString(line)
		}
	}
	return list.String()
}

func TestADamagedArchiveIsAnErrorNotAPanic(t *testing.T) {
	t.Parallel()
	db := pgtest.Database(t, pgtest.Shared(t))
	db.Exec(t, "create table a (id int primary key)")
	path, _, err := schema.FindDump(150000)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := exec.CommandContext(t.Context(), path, "--format=custom", "--schema-only", "--dbname="+db.URI).Output()
	if err != nil {
		t.Fatal(err)
	}
	full, err := schema.ReadArchive(strings.NewReader(string(whole)))
	if err != nil || len(full.Entries) == 0 {
		t.Fatalf("%d entries, %v", len(full.Entries), err)
	}
	for cut := range len(whole) {
		archive, err := schema.ReadArchive(strings.NewReader(string(whole[:cut])))
		if err == nil && len(archive.Entries) < len(full.Entries) {
			t.Fatalf("cut at %d of %d: no error", cut, len(whole))
		}
		damaged := []byte(string(whole))
		damaged[cut] ^= 0xff
		_, _ = schema.ReadArchive(strings.NewReader(string(damaged)))
	}
}

// The whole way, object by object, ends in the schema that pg_dump sees on the source, with and without replica role.
func TestNoObjectIsLostOrChanged(t *testing.T) {
	t.Parallel()
	for _, replicaRole := range []bool{true, false} {
		t.Run(fmt.Sprint("replica role ", replicaRole), func(t *testing.T) {
			t.Parallel()
			m := newMove(t, fixture(t, shop, "testdata/rich.sql"))
			m.target.Exec(t, "update dts_sync.migration set replica_role = $1", replicaRole)
			m.load(t)
			m.create(t, everything...)
			left := m.target.Query(t, "select kind, name from dts_sync.object where state <> 'done' order by no")
			if want := "[[PUBLICATION rich_pub] [PUBLICATION TABLE rich_pub child] [PUBLICATION TABLE rich_pub parent]]"; fmt.Sprint(left) != want {
				t.Errorf("not done: %v", left)
			}
			m.mustBeEqual(t)
			for _, view := range []string{"rich.m1", "rich.a_m2", "rich.m_key", "shop.revenue_by_month"} {
				if !pgtest.Value[bool](t, m.target, "select relispopulated from pg_class where oid = $1::text::regclass", view) {
					t.Errorf("%s is not filled", view)
				}
			}
		})
	}
}

// Each table's key and indexes come by the calls of the copy, and nothing that could stand against it comes earlier.
func TestNothingStandsAgainstTheCopy(t *testing.T) {
	t.Parallel()
	m := newMove(t, fixture(t, shop, "testdata/rich.sql"))
	m.load(t)
	m.create(t, schema.Before)
	if n := pgtest.Value[int](t, m.target, `select count(*) from pg_index i join pg_class c on c.oid = i.indrelid
		join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('shop', 'rich', 'select', 'Mixed Case')`); n != 0 {
		t.Errorf("%d indexes before the data", n)
	}
	if n := pgtest.Value[int](t, m.target, "select count(*) from pg_trigger where not tgisinternal"); n != 0 {
		t.Errorf("%d triggers before the data", n)
	}
	creator := schema.NewCreator(m.cfg)
	for _, row := range m.source.Query(t, `select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where relkind in ('r', 'p') and nspname in ('shop', 'rich', 'select', 'Mixed Case')`) {
		var relid uint32
		_, _ = fmt.Sscan(row[0], &relid)
		for range 2 {
			if err := creator.Key(t.Context(), relid); err != nil {
				t.Fatal(err)
			}
			if err := creator.Indexes(t.Context(), relid); err != nil {
				t.Fatal(err)
			}
		}
	}
	keys := `select c.relname, i.relname from pg_index x join pg_class c on c.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
		join pg_namespace n on n.oid = c.relnamespace
		where nspname in ('shop', 'rich', 'select', 'Mixed Case') and c.relkind in ('r', 'p') and %s order by 1, 2`
	wanted := m.source.Query(t, fmt.Sprintf(keys, "(not x.indisunique and not x.indisexclusion or x.indisreplident or x.indisprimary and x.indimmediate)"))
	if got := m.target.Query(t, fmt.Sprintf(keys, "true")); fmt.Sprint(got) != fmt.Sprint(wanted) {
		t.Errorf("keys and plain indexes are\n%v, want\n%v", got, wanted)
	}
	if n := pgtest.Value[int](t, m.target, "select count(*) from dts_sync.object where section in ('key', 'index') and state <> 'done'"); n != 0 {
		t.Errorf("%d objects of key and index are left", n)
	}
	m.create(t, schema.Constraint)
	for _, unwanted := range []string{
		"select count(*) from pg_rewrite r join pg_class c on c.oid = r.ev_class where c.relkind = 'r' and r.oid >= 16384",
		"select count(*) from pg_trigger where tgenabled in ('A', 'R')",
		"select count(*) from pg_class where relrowsecurity and relforcerowsecurity",
		"select count(*) from pg_event_trigger",
	} {
		if n := pgtest.Value[int](t, m.target, unwanted); n != 0 {
			t.Errorf("before the opening: %d of %s", n, unwanted)
		}
	}
	m.create(t, schema.Opening, schema.After)
	m.mustBeEqual(t)
}

// An attempt that dies after k objects, for several k, in any section, is followed by one that ends the same.
func TestDyingAnywhereLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	m := newMove(t, fixture(t, shop, "testdata/rich.sql"))
	deaths := m.dieOften(t, 0, 1, 7, 40, 41, 90, 150, 5, 30, 3, 12, 60, 2)
	if deaths < 8 {
		t.Fatalf("only %d attempts died", deaths)
	}
	m.enter(t)
	m.load(t)
	m.create(t, everything...)
	m.mustBeEqual(t)
}

// dieOften ends attempts after some reports each.
func (m *move) dieOften(t *testing.T, moments ...int) (deaths int) {
	t.Helper()
	for attempt, after := range moments {
		m.enter(t)
		ctx, cancel := context.WithCancel(t.Context())
		left := after
		cfg := m.cfg
		cfg.Parallel = 1 + attempt%3
		cfg.Report = func(migration.Beat) {
			if left--; left < 0 {
				cancel()
			}
		}
		err := schema.Load(ctx, cfg)
		for _, section := range everything {
			if err == nil {
				_, _, err = schema.Create(ctx, cfg, section, schema.Options{})
			}
		}
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d: %v", after, err)
		}
		if err != nil {
			deaths++
		}
	}
	return deaths
}

const twoTables = `create schema s; create table s.a (id int primary key, v text unique, w int); create table s.b (id int primary key, a int references s.a, v text unique);
	create index a_w on s.a (w); create view s.over as select * from s.a; create view s.over_over as select * from s.over;`

func TestOneFailingObjectStopsOnlyWhatNeedsIt(t *testing.T) {
	t.Parallel()
	m := newMove(t, twoTables)
	m.load(t)
	// A view of that name is in the way.
	m.target.Exec(t, "create schema if not exists s; create view s.over as select 1 as one")
	_, _, err := schema.Create(t.Context(), m.cfg, schema.Before, schema.Options{})
	// The schema itself was read as absent: it is the first to be in the way.
	mustFail(t, err, "42P06", "SCHEMA s")
	m.target.Exec(t, "update dts_sync.object set state = 'done' where kind = 'SCHEMA'")
	counts, _, err := schema.Create(t.Context(), m.cfg, schema.Before, schema.Options{})
	mustFail(t, err, "42P07", "VIEW s.over")
	if counts.Failed != 1 || counts.Done != 3 {
		t.Errorf("counts are %+v", counts)
	}
	state := m.target.Query(t, "select state, sqlstate from dts_sync.object where name = 'over'")[0]
	if state[0] != "failed" || state[1] != "42P07" {
		t.Errorf("recorded %v", state)
	}
	if state := pgtest.Value[string](t, m.target, "select state from dts_sync.object where name = 'over_over'"); state != "pending" {
		t.Errorf("what needs it is %s", state)
	}
	m.target.Exec(t, "drop view s.over")
	m.create(t, everything...)
	m.mustBeEqual(t)
}

func mustFail(t *testing.T, err error, sqlstate, object string) {
	t.Helper()
	fault, ok := migration.AsFault(err)
	if !ok || fault.Kind != migration.FaultObject || fault.SQLState != sqlstate || fault.Object != object || fault.Hint == "" {
		t.Fatalf("got %v, want a fault of %s with %s", err, object, sqlstate)
	}
}

func TestSkippedObjectsTakeTheirDependentsAlongAndAreNoted(t *testing.T) {
	t.Parallel()
	m := newMove(t, twoTables)
	m.load(t)
	m.create(t, schema.Before)
	m.target.Exec(t, "insert into s.a values (1, 'same', 1), (2, 'same', 1)")
	_, _, err := schema.Create(t.Context(), m.cfg, schema.Constraint, schema.Options{})
	mustFail(t, err, "23505", "CONSTRAINT s.a a_v_key")
	if strings.Contains(err.Error(), "same") {
		t.Errorf("a row's value is in %v", err)
	}
	counts, _, err := schema.Create(t.Context(), m.cfg, schema.Constraint, schema.Options{SkipFailed: true})
	if err != nil || counts.Skipped != 1 || counts.Failed != 0 {
		t.Fatalf("counts are %+v, error %v", counts, err)
	}
	main, err := m.led.Read(t.Context())
	if err != nil || len(main.Notes) != 1 || !strings.Contains(main.Notes[0], "a_v_key") {
		t.Errorf("notes are %v, error %v", main.Notes, err)
	}
	m.create(t, everything...)
	if n := pgtest.Value[int](t, m.target, "select count(*) from pg_constraint where conname = 'b_a_fkey'"); n != 1 {
		t.Errorf("%d foreign keys", n)
	}
}

func TestDuplicatesUnderAKeyAreAFault(t *testing.T) {
	t.Parallel()
	m := newMove(t, twoTables)
	m.load(t)
	m.create(t, schema.Before)
	m.target.Exec(t, "insert into s.a values (1), (1)")
	relid := pgtest.Value[uint32](t, m.source, "select 's.a'::regclass::oid")
	creator := schema.NewCreator(m.cfg)
	mustFail(t, creator.Key(t.Context(), relid), "23505", "CONSTRAINT s.a a_pkey")
	m.target.Exec(t, "truncate s.a")
	if err := creator.Key(t.Context(), relid); err != nil {
		t.Fatal(err)
	}
}

// A later attempt, another host and the opening each keep an earlier process from making objects.
func TestAFencedProcessMakesNothing(t *testing.T) {
	t.Parallel()
	m := newMove(t, twoTables)
	m.load(t)
	old := m.cfg
	m.enter(t)
	_, _, err := schema.Create(t.Context(), old, schema.Before, schema.Options{})
	if fault, ok := migration.AsFault(err); !ok || fault.Kind != migration.FaultReplaced {
		t.Fatalf("an earlier attempt: %v", err)
	}
	m.create(t, schema.Before)
	m.target.Exec(t, "update dts_sync.migration set opened_at = now()")
	_, _, err = schema.Create(t.Context(), m.cfg, schema.Constraint, schema.Options{})
	if fault, ok := migration.AsFault(err); !ok || fault.Kind != migration.FaultFenced {
		t.Fatalf("after the opening: %v", err)
	}
	m.create(t, schema.After)
}

// A build that waits or works long ends with its context, on the server too.
func TestACancelledBuildEndsOnTheServer(t *testing.T) {
	t.Parallel()
	m := newMove(t, twoTables)
	m.load(t)
	m.create(t, schema.Before)
	blocker := m.target.Conn(t)
	if _, err := blocker.Exec(t.Context(), "begin; lock table s.a in row exclusive mode"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, _, err := schema.Create(ctx, m.cfg, schema.Key, schema.Options{})
		ended <- err
	}()
	waiting := "select count(*) %s from pg_stat_activity where datname = current_database() and query like 'ALTER TABLE ONLY s.a%%' and state = 'active'"
	m.target.WaitUntil(t, fmt.Sprintf(waiting, "= 1"))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("ended with %v", err)
	}
	m.target.WaitUntil(t, fmt.Sprintf(waiting, "= 0"))
}

func TestWhatCannotBeMovedIsLeftOutAndSaid(t *testing.T) {
	t.Parallel()
	m := newMove(t, `create function public.lib(text) returns text language c as '$libdir/citext', 'citext_eq';
		create table public.free (id int); create view public.bound as select public.lib(id::text) from public.free`)
	m.load(t)
	m.create(t, everything...)
	rows := m.target.Query(t, "select kind, state from dts_sync.object where name in ('lib(text)', 'free', 'bound') order by kind")
	if want := "[[FUNCTION skipped] [TABLE done] [VIEW skipped]]"; fmt.Sprint(rows) != want {
		t.Errorf("objects are %v, want %s", rows, want)
	}
	main, err := m.led.Read(t.Context())
	if err != nil || len(main.Notes) != 1 {
		t.Errorf("notes are %q, error %v", main.Notes, err)
	}
}

// A role without any special right makes everything that belongs to it, and what it may not do is a note.
func TestAPlainRoleOnTheTargetIsEnough(t *testing.T) {
	t.Parallel()
	m := newMove(t, twoTables+"create extension hstore; comment on extension hstore is 'mine'; comment on table s.a is 'A';")
	role := "plain_" + m.cfg.Lane.ID.Short()
	m.target.Exec(t, fmt.Sprintf(`create role %[1]s login; grant create on database %[2]s to %[1]s; create extension hstore;
		alter schema dts_sync owner to %[1]s; grant all on all tables in schema dts_sync to %[1]s`, role, m.target.Name))
	t.Cleanup(func() { dropRole(t, m, role) })
	parsed, err := url.Parse(m.target.URI)
	if err != nil {
		t.Fatal(err)
	}
	parsed.User = url.User(role)
	m.cfg.Target = endpoint(t, migration.Target, parsed.String())
	m.load(t)
	m.create(t, everything...)
	main, err := m.led.Read(t.Context())
	if err != nil || len(main.Notes) != 1 || !strings.Contains(main.Notes[0], "EXTENSION hstore") {
		t.Errorf("notes are %q, error %v", main.Notes, err)
	}
	if got := pgtest.Value[string](t, m.target, "select obj_description('s.a'::regclass)"); got != "A" {
		t.Errorf("comment is %q", got)
	}
}

func dropRole(t *testing.T, m *move, role string) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, m.target.URI)
	if err != nil {
		t.Error(err)
		return
	}
	defer pg.Close(conn)
	if _, err := conn.Exec(ctx, fmt.Sprintf("reassign owned by %[1]s to current_user; drop owned by %[1]s; drop role %[1]s", role)); err != nil {
		t.Error(err)
	}
}

// With owner: keep, roles that the target knows own what they owned; the others are a note, not a failure.
func TestOwnersAreKeptWhereTheyExist(t *testing.T) {
	t.Parallel()
	m := newMove(t, "")
	known := "known_" + m.cfg.Lane.ID.Short()
	m.source.Exec(t, fmt.Sprintf(`create role %[1]s; create schema s authorization %[1]s; set role %[1]s; create table s.a (id serial primary key);
		create function s.f(int, text) returns int language sql as 'select 1'; create type s.t as enum ('x'); create view s.v as select * from s.a`, known))
	t.Cleanup(func() {
		dropRole(t, &move{target: m.source}, known)
	})
	m.cfg.Spec.Schema.Owner = "keep"
	m.load(t)
	m.create(t, everything...)
	m.mustBeEqual(t)
	t.Cleanup(func() { reassign(t, m, known) })
	if owner := pgtest.Value[string](t, m.target, "select tableowner from pg_tables where tablename = 'a'"); owner != known {
		t.Errorf("the owner is %s", owner)
	}
}

func reassign(t *testing.T, m *move, role string) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, m.target.URI)
	if err != nil {
		t.Error(err)
		return
	}
	defer pg.Close(conn)
	if _, err := conn.Exec(ctx, "reassign owned by "+role+" to current_user"); err != nil {
		t.Error(err)
	}
}

// The error of pg_dump says what it said, and never the password.
func TestADumpThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	m := newMove(t, twoTables)
	role := "blind_" + m.cfg.Lane.ID.Short()
	m.source.Exec(t, fmt.Sprintf("create role %s login password 'topsecret'", role))
	t.Cleanup(func() { dropRole(t, &move{target: m.source}, role) })
	parsed, err := url.Parse(m.source.URI)
	if err != nil {
		t.Fatal(err)
	}
	parsed.User = url.UserPassword(role, "topsecret")
	m.cfg.Source = endpoint(t, migration.Source, parsed.String())
	err = schema.Load(t.Context(), m.cfg)
	if err == nil || !strings.Contains(err.Error(), "permission denied") || strings.Contains(err.Error(), "topsecret") {
		t.Fatalf("got %v", err)
	}
	m.cfg.Source = endpoint(t, migration.Source, m.source.URI)
	m.load(t)
}
