package activities

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// trial is a migration whose steps a test calls as the workflow would, under whatever execution it names.
type trial struct {
	from, to *pgtest.DB
	spec     migration.Spec
}

const extra = `
create table part (id int, day date not null, note text, primary key (id, day)) partition by range (day);
create table part_20 partition of part for values from ('2020-01-01') to ('2021-01-01');
create table part_21 partition of part for values from ('2021-01-01') to ('2022-01-01');
create index on part (note);
insert into part select i, date '2020-01-01' + i, 'n' || i from generate_series(1, 700) i;
create table guarded (id int primary key, v text unique, w int);
alter table guarded enable row level security;
create policy mine on guarded using (w > 0);
alter table guarded replica identity using index guarded_pkey;
insert into guarded select i, 'v' || i, i from generate_series(1, 2000) i;
create view grouped as select id, v from guarded group by id;
create view over_grouped as select * from grouped;
create materialized view kept as select id, v from guarded;
create unique index on kept (id);
create rule no_delete as on delete to guarded where old.w = -1 do instead nothing;
comment on index guarded_pkey is 'the key';
create table nokey (v text); insert into nokey select 'x' || i from generate_series(1, 50) i;`

func newTrial(t *testing.T) *trial {
	t.Helper()
	server := pgtest.Shared(t)
	r := &trial{from: pgtest.Database(t, server), to: pgtest.Database(t, server)}
	for _, path := range []string{"../tests/fixtures/shop.sql", "../tests/fixtures/shop_data.sql"} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		_, err = r.from.Conn(t).Exec(t.Context(), string(text))
		require.NoError(t, err)
	}
	r.from.Exec(t, extra)
	// What is not ours on the target, with rows, has to stay.
	r.to.Exec(t, "create schema theirs; create table theirs.t (id int primary key); insert into theirs.t values (1), (2)")
	r.spec = migration.Spec{
		ID: migration.RandomID("again"), Source: migration.Endpoint{URI: r.from.URI}, Target: migration.Endpoint{URI: r.to.URI},
		WithoutKey: migration.FullIdentity,
	}
	r.spec.Defaults()
	return r
}

// as is a session of an execution of the workflow. What it reports comes to see.
func (r *trial) as(t *testing.T, run string, see func(migration.Beat)) *session {
	t.Helper()
	a := &Activities{Logger: zaptest.NewLogger(t)}
	s, err := a.session("test", step.In{Spec: r.spec, Run: run}, see)
	require.NoError(t, err)
	return s
}

func unseen(migration.Beat) {}

// steps in the order of the workflow.
var steps = []struct {
	name string
	work func(context.Context, *session) error
}{
	{"prepare", func(ctx context.Context, s *session) error { _, err := prepare(ctx, s); return err }},
	{"schema", func(ctx context.Context, s *session) error {
		_, err := createBefore(ctx, s, schema.Options{})
		return err
	}},
	{"plan", func(ctx context.Context, s *session) error { _, err := plan(ctx, s); return err }},
	{"copy", func(ctx context.Context, s *session) error {
		_, err := copyLane(ctx, s, step.CopyIn{Lane: 1})
		return err
	}},
	{"catchup", func(ctx context.Context, s *session) error { _, err := stream(ctx, s, step.UntilExact); return err }},
	{"constraints", func(ctx context.Context, s *session) error {
		_, err := createConstraints(ctx, s, schema.Options{})
		return err
	}},
	{"incremental", func(ctx context.Context, s *session) error { _, err := stream(ctx, s, step.UntilMarker); return err }},
	{"settle", func(ctx context.Context, s *session) error { _, err := settle(ctx, s, nil); return err }},
}

// advance takes the migration to the end of a step.
func (r *trial) advance(t *testing.T, run, last string) {
	t.Helper()
	for _, s := range steps {
		require.NoError(t, s.work(t.Context(), r.as(t, run, unseen)), "%s of %s", s.name, run)
		if s.name == last {
			return
		}
	}
	t.Fatalf("no step %s", last)
}

// end is how the workflow ends a migration that failed or was stopped.
func (r *trial) end(t *testing.T, run string, end migration.Phase, keepSlot bool) {
	t.Helper()
	_, err := cleanup(t.Context(), r.as(t, run, unseen), step.CleanupIn{End: end, KeepSlot: keepSlot})
	require.NoError(t, err)
}

func (r *trial) mustBeEqual(t *testing.T) {
	t.Helper()
	require.Equal(t, "2", r.to.Query(t, "select count(*) from theirs.t")[0][0], "rows that are not ours")
	pgtest.MustEqual(t, r.from, r.to, "theirs.t")
	// What was set on the source for the migration's own use goes with its end.
	r.end(t, r.to.Query(t, "select run from dts_sync.migration")[0][0], migration.PhaseStopped, false)
	require.Empty(t, r.from.Query(t, "select slot_name from pg_replication_slots where database = current_database()"))
	source, target := strings.Split(dumped(t, r.from), "\n"), strings.Split(dumped(t, r.to), "\n")
	for i := range min(len(source), len(target)) {
		require.Equal(t, source[i], target[i], "line %d of pg_dump", i+1)
	}
	require.Len(t, target, len(source))
	require.Equal(t, "0", r.to.Query(t, "select coalesce(sum(conflicts), 0) from dts_sync.tbl")[0][0])
}

var fresh = regexp.MustCompile(`(?m)^\\(un)?restrict .*$`)

func dumped(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	path, _, err := schema.FindDump(150000)
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), path, "--schema-only", "--no-publications", "--exclude-schema=dts_sync",
		"--exclude-schema=theirs", "--dbname="+db.URI).Output()
	require.NoError(t, err)
	require.Greater(t, len(out), 10000)
	return fresh.ReplaceAllString(string(out), "")
}

// Wherever an attempt ends, the next one ends equal, to a source that has changed meanwhile.
func TestBeginsAnewWhereverAnAttemptEnded(t *testing.T) {
	t.Parallel()
	for _, last := range []string{"prepare", "schema", "plan", "copy", "catchup", "constraints", "incremental"} {
		t.Run(last, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t)
			r.advance(t, "run-1", last)
			keepSlot := last == "catchup" || last == "incremental"
			r.end(t, "run-1", migration.PhaseFailed, keepSlot)
			r.from.Exec(t, `delete from guarded where id % 3 = 0; insert into part values (9999, '2021-05-05', 'new');
				update guarded set w = w + 1 where id < 50; create index added on guarded (w); drop index shop.product_name_idx;
				create table later (id int primary key); insert into later values (1)`)
			r.advance(t, "run-2", "settle")
			r.mustBeEqual(t)
		})
	}
}

// A copy that was cut off leaves rows of some chunks; they are gone before the next one begins.
func TestBeginsAnewAfterHalfACopy(t *testing.T) {
	t.Parallel()
	r := newTrial(t)
	r.advance(t, "run-1", "plan")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, _ = copyLane(ctx, r.as(t, "run-1", func(b migration.Beat) {
		if b.Done >= 3 {
			cancel()
		}
	}), step.CopyIn{Lane: 1})
	require.Equal(t, "t", r.to.Query(t, "select count(*) filter (where state = 'done') > 0 from dts_sync.chunk")[0][0])
	r.end(t, "run-1", migration.PhaseStopped, false)
	r.advance(t, "run-2", "settle")
	r.mustBeEqual(t)
}

// Whoever dies while clearing away is followed by somebody who goes on, under the same execution or another.
func TestDyingWhileBeginningAnewLosesNothing(t *testing.T) {
	t.Parallel()
	r := newTrial(t)
	r.advance(t, "run-1", "constraints")
	r.end(t, "run-1", migration.PhaseFailed, false)
	deaths := 0
	for i, after := range []int{0, 1, 3, 8, 8, 0, 12, 5, 20, 15, 2} {
		ctx, cancel := context.WithCancel(t.Context())
		left := after
		_, err := prepare(ctx, r.as(t, "run-"+string(rune('2'+i%2)), func(migration.Beat) {
			if left--; left < 0 {
				cancel()
			}
		}))
		cancel()
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			deaths++
			continue
		}
		break
	}
	require.Greater(t, deaths, 5)
	r.advance(t, "run-4", "settle")
	r.mustBeEqual(t)
}

// The cleanup that an earlier attempt still owes comes late: the slot of that name is another's by then.
func TestLateCleanupOfAnEarlierAttemptTouchesNothing(t *testing.T) {
	t.Parallel()
	r := newTrial(t)
	r.advance(t, "run-1", "copy")
	r.end(t, "run-1", migration.PhaseFailed, true)
	r.advance(t, "run-2", "schema")
	r.end(t, "run-1", migration.PhaseFailed, false)
	require.Equal(t, [][]string{{r.spec.ID.Slot()}},
		r.from.Query(t, "select slot_name from pg_replication_slots where database = current_database()"))
	require.Equal(t, [][]string{{"NULL", "run-2"}}, r.to.Query(t, "select ended, run from dts_sync.migration"))
	r.advance(t, "run-2", "settle")
	r.mustBeEqual(t)
}

// What stands on the target is compared with the source, and the remedy that is told works.
func TestSaysWhatOfTheSourceHasChanged(t *testing.T) {
	t.Parallel()
	r := newTrial(t)
	r.advance(t, "run-1", "constraints")
	r.end(t, "run-1", migration.PhaseFailed, false)
	r.from.Exec(t, "alter table nokey add column more int default 7")
	_, err := prepare(t.Context(), r.as(t, "run-2", unseen))
	fault, ok := migration.AsFault(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, migration.FaultObject, fault.Kind)
	require.Equal(t, "TABLE public.nokey", fault.Object)
	statement, _, _ := strings.Cut(strings.TrimPrefix(fault.Hint, "if nothing of it is needed any more, on the target: "), "; or ")
	r.to.Exec(t, statement)
	r.advance(t, "run-2", "settle")
	r.mustBeEqual(t)
}

// What a person has dropped from the target, with all that hung on it, is made again.
func TestMakesAgainWhatSomebodyDropped(t *testing.T) {
	t.Parallel()
	r := newTrial(t)
	r.advance(t, "run-1", "constraints")
	r.end(t, "run-1", migration.PhaseFailed, false)
	r.to.Exec(t, "drop table guarded cascade; drop table part_20; drop schema shop cascade")
	r.advance(t, "run-2", "settle")
	r.mustBeEqual(t)
}

// Somebody's constraint on a key of ours is not swept away with it.
func TestDropsNothingThatOthersHung(t *testing.T) {
	t.Parallel()
	r := newTrial(t)
	r.advance(t, "run-1", "constraints")
	r.end(t, "run-1", migration.PhaseFailed, false)
	r.to.Exec(t, "alter table theirs.t add constraint fk foreign key (id) references guarded")
	_, err := prepare(t.Context(), r.as(t, "run-2", unseen))
	fault, ok := migration.AsFault(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "2BP01", fault.SQLState)
	require.Contains(t, fault.Object, "guarded_pkey")
	r.to.Exec(t, "alter table theirs.t drop constraint fk")
	r.advance(t, "run-2", "settle")
	r.mustBeEqual(t)
}

// A stop that drained leaves a target that is its user's: nobody begins anew there, and the precheck says so.
func TestNeverBeginsAnewOnATargetThatIsInUse(t *testing.T) {
	t.Parallel()
	for _, end := range []migration.Phase{migration.PhaseStopped, migration.PhaseFailed} {
		r := newTrial(t)
		r.advance(t, "run-1", "settle")
		r.end(t, "run-1", end, false)
		r.to.Exec(t, "insert into nokey values ('the user''s')")
		before := pgtest.Hashes(t, r.to)
		_, err := prepare(t.Context(), r.as(t, "run-2", unseen))
		fault, ok := migration.AsFault(err)
		require.True(t, ok, "%v", err)
		require.Equal(t, migration.FaultFenced, fault.Kind)
		require.Contains(t, fault.Hint, "release")
		require.Equal(t, before, pgtest.Hashes(t, r.to))
		require.Equal(t, "run-1", r.to.Query(t, "select run from dts_sync.migration")[0][0])

		result, err := check(t.Context(), r.as(t, "run-2", unseen), nil)
		require.NoError(t, err)
		blocking := map[string]string{}
		for _, item := range result.Blocking() {
			blocking[item.Code] = item.Found
		}
		require.Contains(t, blocking["TARGET_LEDGER"], "brought everything over")
		require.Contains(t, blocking["TARGET_SAME_TABLES"], "public.nokey")
	}
}

// The target did not hear how the attempt ended. A person's order counts, once the lease is over.
func TestBeginsAnewWhereTheEndWasNotRecorded(t *testing.T) {
	t.Parallel()
	r := newTrial(t)
	r.advance(t, "run-1", "copy")
	s := r.as(t, "run-2", unseen)
	s.Again = true
	_, err := prepare(t.Context(), s)
	fault, ok := migration.AsFault(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, migration.FaultFenced, fault.Kind, "while the lease lasts")
	r.to.Exec(t, "update dts_sync.migration set lease_until = now() - interval '1 s'")
	r.from.Exec(t, "select pg_drop_replication_slot($1)", r.spec.ID.Slot())
	_, err = prepare(t.Context(), s)
	require.NoError(t, err)
	r.advance(t, "run-2", "settle")
	r.mustBeEqual(t)
}

// The precheck lets a migration begin anew over what it has made itself.
func TestPrecheckLetsBeginAnew(t *testing.T) {
	t.Parallel()
	r := newTrial(t)
	r.advance(t, "run-1", "constraints")
	r.end(t, "run-1", migration.PhaseFailed, false)
	result, err := check(t.Context(), r.as(t, "run-2", unseen), nil)
	require.NoError(t, err)
	for _, item := range result.Blocking() {
		require.NotContains(t, []string{"TARGET_LEDGER", "TARGET_SAME_TABLES", "TARGET_SAME_OBJECTS"}, item.Code, item.Found)
	}
}
