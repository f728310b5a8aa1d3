package precheck_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/precheck"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m, proved.missing) }

// pair is a source and a target with the roles that look at them.
type pair struct {
	source, target         *pgtest.DB
	sourceRole, targetRole string
	spec                   migration.Spec
	patience               time.Duration
}

// onShared makes two empty databases on the common server, looked at by its superuser.
func onShared(t *testing.T) *pair {
	t.Helper()
	return between(t, pgtest.Shared(t), pgtest.Shared(t))
}

func between(t *testing.T, from, to *pgserver.Server) *pair {
	t.Helper()
	p := &pair{source: pgtest.Database(t, from), target: pgtest.Database(t, to), patience: time.Hour}
	p.spec = migration.Spec{ID: migration.RandomID("shop"), Name: "shop"}
	p.spec.Defaults()
	p.spec.Parallel = migration.Parallel{Copy: 2, Index: 2}
	return p
}

var roleCount atomic.Int64

// newRole makes a role that may log in and nothing else. It must be made before the databases in which it owns
// something, so that it is dropped after them.
func newRole(t *testing.T, server *pgserver.Server, attributes string) string {
	t.Helper()
	name := fmt.Sprintf("app_%d_%d", os.Getpid(), roleCount.Add(1))
	admin := &pgtest.DB{URI: server.URI("postgres"), Name: "postgres", Server: server}
	admin.Exec(t, "create role "+name+" login "+attributes)
	later(t, admin, "drop role "+name)
	return name
}

// later runs a statement at the end of the test, when its context has ended.
func later(t *testing.T, db *pgtest.DB, sql string) {
	t.Cleanup(func() {
		ctx := context.Background()
		conn, err := pgx.Connect(ctx, db.URI)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	})
}

func endpoint(db *pgtest.DB, role string) migration.Endpoint {
	uri, _ := url.Parse(db.URI)
	if role != "" {
		uri.User = url.User(role)
	}
	return migration.Endpoint{URI: uri.String()}
}

func server(t *testing.T, side migration.Side, e migration.Endpoint) *pg.Server {
	t.Helper()
	s, err := pg.NewServer(side, e, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *pair) check(t *testing.T) report {
	t.Helper()
	return run(t, precheck.Config{
		Source: server(t, migration.Source, endpoint(p.source, p.sourceRole)),
		Target: server(t, migration.Target, endpoint(p.target, p.targetRole)),
		Spec:   p.spec, Patience: p.patience,
	})
}

func run(t *testing.T, c precheck.Config) report {
	t.Helper()
	c.Logger = zap.NewNop()
	items, err := precheck.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// as opens a session of a role.
func (p *pair) as(t *testing.T, db *pgtest.DB, role string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), endpoint(db, role).URI)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

type report []migration.Item

func (r report) item(t *testing.T, code string, side ...migration.Side) migration.Item {
	t.Helper()
	for _, item := range r {
		if item.Code == code && (len(side) == 0 || item.Side == side[0]) {
			return item
		}
	}
	t.Fatalf("no item %s", code)
	return migration.Item{}
}

// mustBe checks the state of an item and that its sentence and its fix hold some words.
func (r report) mustBe(t *testing.T, code string, state migration.ItemState, words ...string) migration.Item {
	t.Helper()
	item := r.item(t, code)
	mustRead(t, item, state, words...)
	return item
}

func mustRead(t *testing.T, item migration.Item, state migration.ItemState, words ...string) {
	t.Helper()
	if item.State != state {
		t.Fatalf("%s is %s: %s (fix: %s)", item.Code, item.State, item.Found, item.Fix)
	}
	proved.saw(t, item)
	mustBeTypable(t, item)
	for _, word := range words {
		if !strings.Contains(item.Found+"\n"+item.Fix, word) {
			t.Errorf("%s does not say %q: %s (fix: %s)", item.Code, word, item.Found, item.Fix)
		}
	}
	if item.Blocks() && item.Fix == "" {
		t.Errorf("%s blocks and names no remedy: %s", item.Code, item.Found)
	}
	if strings.Contains(item.Found, "\n") {
		t.Errorf("%s is more than one sentence: %q", item.Code, item.Found)
	}
}

func (r report) mustPass(t *testing.T, codes ...string) {
	t.Helper()
	for _, code := range codes {
		if item := r.item(t, code); item.State != migration.ItemPassed {
			t.Errorf("%s is %s: %s (fix: %s)", code, item.State, item.Found, item.Fix)
		} else {
			proved.saw(t, item)
		}
	}
}

// A database without anything odd must be let through: a precheck that always finds something is ignored.
func TestNothingBlocksAnOrdinaryDatabase(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	p.source.Exec(t, `
		create schema sales;
		create type sales.mood as enum ('sad', 'happy');
		create table sales.customer (id bigint generated always as identity primary key, name text collate "C", mood sales.mood);
		create table sales.orders (id serial primary key, customer bigint references sales.customer, at timestamptz) ;
		create table sales.log (id int, at date, primary key (id, at)) partition by range (at);
		create table sales.log_2026 partition of sales.log for values from ('2026-01-01') to ('2027-01-01');
		create view sales.happy as select * from sales.customer where mood = 'happy';
		create function sales.f(int) returns int language sql as 'select $1';
		create policy p on sales.customer using (true);
		insert into sales.orders (at) select now() from generate_series(1, 10)`)
	items := p.check(t)
	items.mustPass(t, "SOURCE_CONNECTION", "TARGET_CONNECTION", "SOURCE_VERSION", "DUMP_VERSION", "KNOWN_BUGS", "WAL_SENDERS", "ENCODING")
	for _, item := range items {
		if item.Blocks() {
			t.Errorf("%s: %s (fix: %s)", item.Code, item.Found, item.Fix)
		}
		if strings.Contains(item.Found, "could not be looked at") {
			t.Errorf("%s: %s", item.Code, item.Found)
		}
	}
}

// The precheck promises to change nothing.
func TestLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	const everything = `select (select count(*) from pg_class) || ' ' || (select count(*) from pg_namespace) || ' ' ||
		(select count(*) from pg_proc) || ' ' || (select count(*) from pg_publication) || ' ' ||
		(select count(*) from pg_replication_slots where database = current_database())`
	p.source.Exec(t, `create table a (id int primary key)`)
	p.of(where("public.a", "id > 0")) // which is tried out in a temporary table
	before := [2]string{pgtest.Value[string](t, p.source, everything), pgtest.Value[string](t, p.target, everything)}
	p.check(t)
	after := [2]string{pgtest.Value[string](t, p.source, everything), pgtest.Value[string](t, p.target, everything)}
	if before != after {
		t.Errorf("before %v, after %v", before, after)
	}
	p.source.WaitUntil(t, `select not exists (select from pg_stat_activity where application_name like '`+p.spec.ID.SessionPrefix("precheck")+`%')`)
}

func TestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := precheck.Run(ctx, precheck.Config{
		Source: server(t, migration.Source, endpoint(p.source, "")), Target: server(t, migration.Target, endpoint(p.target, "")),
		Spec: p.spec, Logger: zap.NewNop(),
	})
	if err == nil {
		t.Fatal("a cancelled precheck gave a result")
	}
}
