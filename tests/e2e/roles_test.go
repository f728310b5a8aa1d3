package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/load"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Roles of the tests: who owns the application's tables, who moves them from the source, and who receives them.
const (
	appRole    = "app"
	moverRole  = "mover"
	keeperRole = "keeper"
)

// newRoleScenario is a migration between roles that are no superusers. The application connects as the owner of its
// tables. The mover has what grants give it; the keeper has what receives gives it. %s in both is the database.
func newRoleScenario(t *testing.T, source, target *pgserver.Server, tables, grants, receives string) *scenario {
	t.Helper()
	s := &scenario{t: t, dir: t.TempDir(), source: source, target: target}
	s.from, s.to = pgtest.Database(t, source), pgtest.Database(t, target)
	s.file = s.dir + "/migration.yaml"
	s.from.Exec(t, fmt.Sprintf("create role %s login; create role %s login replication", appRole, moverRole))
	s.from.Exec(t, fmt.Sprintf(`grant create on database "%s" to %s; grant create on schema public to %[2]s`, s.from.Name, appRole))
	owner := *s.from
	owner.URI = as(s.from.URI, appRole)
	owner.Exec(t, tables)
	s.from.Exec(t, strings.ReplaceAll(grants, "%s", migration.Quote(s.from.Name)))
	s.to.Exec(t, "create role "+keeperRole+" login")
	s.to.Exec(t, strings.ReplaceAll(receives, "%s", migration.Quote(s.to.Name)))
	s.defineAs("cutover: {mode: auto, steadyFor: 500ms}\nparallel: {copy: 2, index: 2}\n")
	return s
}

// defineAs is define for the roles of the scenario.
func (s *scenario) defineAs(extra string) {
	definition := fmt.Sprintf("name: shop\nsource: {uri: %q}\ntarget: {uri: %q}\n%s",
		as(s.from.URI, moverRole), as(s.to.URI, keeperRole), extra)
	require.NoError(s.t, os.WriteFile(s.file, []byte(definition), 0o600))
}

// writersAs are clients of the application.
func (s *scenario) writersAs(operations []load.Operation) *load.Load {
	writers := load.Start(context.Background(), load.Config{
		URI: as(s.from.URI, appRole), Clients: 3, Operations: operations, Seed: 4, Pause: 10 * time.Millisecond, Persist: true,
	})
	s.t.Cleanup(func() { writers.Stop() })
	return writers
}

// administer checks, runs what is printed for each item that blocks, as it stands, and asks that nothing blocks then.
func (s *scenario) administer() (mended []string) {
	s.t.Helper()
	_, before, _ := s.check()
	for _, item := range before.Blocking() {
		mended = append(mended, item.Code)
		db := s.from
		if item.Side == migration.Target {
			db = s.to
		}
		runByAdministrator(s.t, db, item.Fix)
	}
	code, result, _ := s.check()
	require.Zero(s.t, code, "%+v", result.Blocking())
	return mended
}

// moveUnderWriters runs the migration through its cutover while clients write.
func (s *scenario) moveUnderWriters(operations []load.Operation) migration.Report {
	s.t.Helper()
	writers := s.writersAs(operations)
	p := s.start(nil, "run", "-f", s.file)
	require.Equal(s.t, 0, p.wait(2*time.Minute), "%s%s", &p.out, &p.err)
	outcome := writers.Stop()
	require.Empty(s.t, outcome.Errors)
	require.False(s.t, outcome.FirstRefused.IsZero(), "clients must have run into the fence")
	s.mustBeEqual(outcome)
	report := s.report()
	require.Equal(s.t, migration.PhaseFinished, report.State)
	require.Zero(s.t, report.Conflicts)
	return report
}

// keeperOwns is a target whose database belongs to the role.
const keeperOwns = "alter database %s owner to " + keeperRole

// An owner with REPLICATION on the source, and the owner of the database on the target: no superuser anywhere, and
// nothing to prepare. Foreign keys and triggers come with the opening, which the check and the report say.
func TestOwnersMigrateWithoutASuperuser(t *testing.T) {
	s := newRoleScenario(t, pgtest.Server(t), pgtest.Server(t), load.Schema+bankTables+bankLinks,
		"grant "+appRole+" to "+moverRole+"; grant create on database %s to "+moverRole, keeperOwns)
	code, result, _ := s.check()
	require.Zero(t, code, "%+v", result.Blocking())
	for _, item := range result.Items {
		if item.Code == "REPLICA_ROLE" {
			require.Equal(t, migration.ItemNotice, item.State)
			require.Contains(t, item.Found, "when the target is opened")
		}
	}
	report := s.moveUnderWriters(load.Operations)
	require.Contains(t, fmt.Sprint(report.Notes), "may not set session_replication_role on the target")
	s.mustLeaveNothing()
	require.Equal(t, s.from.Query(t, structure), s.to.Query(t, structure))
	require.Empty(t, s.to.Query(t, "select conname::text from pg_constraint where not convalidated"))
	require.Equal(t, keeperRole, pgtest.Value[string](t, s.to, "select string_agg(distinct tableowner, ' ') from pg_tables where schemaname in ('load', 'bank')"))

	// Whoever closed the source opens it again.
	code, _, errs := s.run("unfence", "-f", s.file)
	require.Zero(t, code, errs)
	s.from.Exec(t, "insert into load.nokey values ('back', 1)")
}

// reads is what a mover that may only read has.
const reads = "grant usage on schema load to " + moverRole + "; grant select on all tables in schema load to " + moverRole +
	"; grant select on all sequences in schema load to " + moverRole

// A mover that may read and replicate: what check prints is run as it stands, and the migration goes through its cutover
// with a real fence. What the administrator made is listed with the SQL that drops it, and is not dropped by us.
func TestReaderMigratesByWhatAnAdministratorPrepared(t *testing.T) {
	s := newRoleScenario(t, pgtest.Server(t), pgtest.Server(t), load.Schema, reads,
		"grant create on database %s to "+keeperRole+"; grant usage, create on schema public to "+keeperRole)
	require.Equal(t, []string{"PUBLICATION_RIGHT", "FENCE_RIGHT"}, s.administer())
	made := s.from.Query(t, "select oid, xmin from pg_publication order by 1")
	report := s.moveUnderWriters(load.Operations)
	require.Contains(t, fmt.Sprint(report.Notes), "functions that an administrator had prepared")
	require.Equal(t, made, s.from.Query(t, "select oid, xmin from pg_publication order by 1"))
	s.mustBeDroppedByOthers(report)
}

// mustBeDroppedByOthers opens the source again as the role itself, runs what the report lists for the administrator, and
// asks that nothing is left.
func (s *scenario) mustBeDroppedByOthers(report migration.Report) {
	s.t.Helper()
	code, out, errs := s.run("unfence", "-f", s.file)
	require.Zero(s.t, code, errs)
	require.Contains(s.t, out+errs, "triggers of function")
	for _, note := range report.Notes {
		if _, statements, found := strings.Cut(note, "dropped by: "); found {
			s.from.Exec(s.t, statements)
		}
	}
	s.mustLeaveNothing()
	require.Empty(s.t, s.from.Query(s.t, "select nspname::text from pg_namespace where nspname in ('dts_sync', 'pgdts_fence')"))
}

// oldTables are what version 10 has.
const oldTables = `
create schema load;
create table load.audit (client int not null, seq bigint not null, at timestamptz not null default clock_timestamp(), primary key (client, seq));
create table load.pair (a int, b text, v jsonb, primary key (a, b));
create table load.parent (id int generated always as identity primary key, name text);
create table load.child (id bigserial primary key, parent int not null references load.parent on delete cascade, price numeric(12, 2));
create table load.nokey (what text, n int);
insert into load.nokey select 'row', i % 50 from generate_series(1, 200) i`

var oldOperations = []load.Operation{
	statement("insert into load.pair values ($1, $2, '{}') on conflict (a, b) do update set v = jsonb_build_object('n', $1::int)"),
	statement("delete from load.pair where a = $1 and b < $2"),
	statement("with p as (insert into load.parent (name) values ($2) returning id) insert into load.child (parent, price) select id, $1 from p"),
	statement("insert into load.nokey values ($2, $1)"),
}

func statement(sql string) load.Operation {
	return func(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
		_, err := tx.Exec(ctx, sql, r.IntN(40), fmt.Sprint("k", r.IntN(100)))
		return err
	}
}

// The oldest source has no messages and no publications of partitioned tables: the administrator prepares a marker table
// too. On the target a role that was given the replica role keeps foreign keys still without being a superuser.
func TestReaderMigratesFromTheOldestVersion(t *testing.T) {
	s := newRoleScenario(t, pgtest.Server(t, pgtest.Major(10)), pgtest.Server(t), oldTables, reads,
		keeperOwns+"; grant set on parameter session_replication_role to "+keeperRole)
	require.Equal(t, []string{"PUBLICATION_RIGHT", "MARKER_RIGHT", "FENCE_RIGHT"}, s.administer())
	report := s.moveUnderWriters(oldOperations)
	require.NotContains(t, fmt.Sprint(report.Notes), "session_replication_role")
	s.mustBeDroppedByOthers(report)
}

// A right that disappears in the middle is no end: the migration says which one it lacks and how to give it, and goes on
// by itself when it is back.
func TestRightThatDisappearsIsNamedAndWaitedFor(t *testing.T) {
	s := newRoleScenario(t, pgtest.Server(t), pgtest.Server(t), load.Schema, "grant "+appRole+" to "+moverRole+
		"; grant create on database %s to "+moverRole, keeperOwns)
	s.defineAs("cutover: {mode: manual, steadyFor: 500ms}\nparallel: {copy: 2, index: 2}\n")
	writers := s.writersAs(load.Operations)
	p := s.start(nil, "run", "-f", s.file)
	s.await(p, "caught up", func(status migration.Status) bool {
		return status.Phase == migration.PhaseIncremental && status.CaughtUp
	})
	s.from.Exec(t, "alter role "+moverRole+" noreplication; select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null")
	status := s.await(p, "the missing right", func(status migration.Status) bool {
		return status.Outage != nil && status.LastError != nil && status.LastError.Kind == migration.FaultPrivilege
	})
	require.Contains(t, status.LastError.Hint, `alter role "`+moverRole+`" replication`)
	s.from.Exec(t, "alter role "+moverRole+" replication")
	s.await(p, "the end of the outage", func(status migration.Status) bool {
		return status.Phase == migration.PhaseIncremental && status.Outage == nil && status.CaughtUp
	})
	code, _, errs := s.run("cutover", "-f", s.file)
	require.Zero(t, code, errs)
	require.Equal(t, 0, p.wait(2*time.Minute))
	s.mustBeEqual(writers.Stop())
	s.mustLeaveNothing()
}

// runByAdministrator gives what check prints to psql, as it stands.
func runByAdministrator(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	binaries, err := pgserver.Find(0) // those of old versions come without psql
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), binaries.Path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", db.URI)
	command.Stdin = strings.NewReader(sql)
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s\n%s", sql, out)
}
