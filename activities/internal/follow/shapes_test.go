package follow

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const measured = `
create table other (id int primary key, v text);
create table a (id int primary key, v text);
create table m (k int primary key, v text) partition by range (k);
create table m1 partition of m for values from (0) to (10);
create table m2 partition of m for values from (10) to (20)`

// watched follows with a catalog that is looked at all the time.
func watched(t *testing.T, b *slottest.Bench) (*Follower, func() error) {
	t.Helper()
	f := New(Config{Source: b.Source, Target: b.Target, Spec: b.Spec, Run: slottest.Run, Report: b.Report, Logger: zaptest.NewLogger(t)})
	f.shapesEvery = 50 * time.Millisecond
	stop := start(t, f)
	_, err := f.Mark(t.Context())
	require.NoError(t, err)
	return f, stop
}

// over waits until the stream has stopped by itself.
func over(t *testing.T, f *Follower) *migration.Fault {
	t.Helper()
	require.Eventually(t, func() bool { ended, _ := f.board.over(); return ended }, 30*time.Second, 10*time.Millisecond)
	_, err := f.board.over()
	return slottest.MustFault(t, migration.FaultDrift, err)
}

const late = "create table m3 (k int primary key, v text); insert into m3 values (25, 'x'); alter table m attach partition m3 for values from (20) to (30)"

// apart runs each statement in a transaction of its own.
func apart(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	for _, statement := range strings.Split(sql, "; ") {
		db.Exec(t, statement)
	}
}

func noted(f *Follower, text string) func() bool {
	return func() bool { return strings.Contains(strings.Join(f.Status().Notes, "\n"), text) }
}

func newWatched(t *testing.T) *slottest.Bench {
	t.Helper()
	b := slottest.New(t, pgtest.Shared(t), measured)
	b.To.Exec(t, measured)
	b.Prepare(t)
	exact(t, b)
	return b
}

func TestChangesThatTheStreamIsSilentAboutAreToldAndStopNothing(t *testing.T) {
	t.Parallel()
	b := newWatched(t)
	f, stop := watched(t, b)
	for _, each := range []struct{ sql, says string }{
		{"alter table a add column n int", `public.a: column "n" integer added`},
		{"alter table a alter v set default 'x'", "public.a: a default was changed"},
		{"create index a_v on a (v)", "public.a: index a_v was added"},
		{"alter table other add check (id > 0)", "public.other: constraint other_id_check check was added"},
		{"alter table other replica identity nothing", "public.other: replica identity changed from default to nothing"},
		{"create table fresh (id int)", "public.fresh: the table is new"},
		{"drop table other", "public.other: the table was dropped"},
	} {
		b.From.Exec(t, each.sql)
		require.Eventually(t, noted(f, each.says), 20*time.Second, 20*time.Millisecond, "%s: %v", each.sql, f.Status().Notes)
	}
	require.NoError(t, stop())
}

func TestLooksThatFailAreToldUntilOneSucceeds(t *testing.T) {
	t.Parallel()
	b := newWatched(t)
	f, stop := watched(t, b)
	conn := b.From.Conn(t)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "lock table pg_catalog.pg_publication_rel in access exclusive mode")
	require.NoError(t, err)
	const text = "the source's tables could not be looked at: "
	require.Eventually(t, noted(f, text), time.Minute, 20*time.Millisecond)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Eventually(t, func() bool { return !noted(f, text)() }, time.Minute, 20*time.Millisecond)
	require.NoError(t, stop())
}

func TestWhatTheStreamWouldMissStopsIt(t *testing.T) {
	t.Parallel()
	for name, each := range map[string]struct{ sql, says, object string }{
		"another table under its name": {"alter table a rename to a_old; create table a (id int primary key, v text)", "renamed to public.a_old, and another table has its name", "public.a"},
		"made again":                   {"drop table a; create table a (id int primary key, v text)", "dropped, and another table has its name", "public.a"},
		"attached with rows":           {late, "attached", "public.m3"},
		"attached with rows at once":   {strings.ReplaceAll(late, "; ", ";"), "attached", "public.m3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newWatched(t)
			f, stop := watched(t, b)
			apart(t, b.From, each.sql)
			fault := over(t, f)
			require.Equal(t, each.object, fault.Object)
			require.Contains(t, fault.Message, each.says)
			require.Contains(t, fault.Hint, "pgdts resume")
			require.Error(t, stop())
		})
	}
	t.Run("published no more", func(t *testing.T) {
		t.Parallel()
		b := newWatched(t)
		f, stop := watched(t, b)
		b.From.Exec(t, "alter publication "+b.Spec.ID.Publication()+" drop table a")
		fault := over(t, f)
		require.Equal(t, "public.a", fault.Object)
		require.Contains(t, fault.Message, "publishes it no longer")
		require.Error(t, stop())
	})
}

func TestDetachedAndAttachedPartitionsGoOnOnceTheTargetHasFollowed(t *testing.T) {
	t.Parallel()
	b := newWatched(t)
	f, stop := watched(t, b)
	b.From.Exec(t, "insert into m values (1, 'a'), (11, 'b')")
	marker, err := f.Mark(t.Context())
	require.NoError(t, err)
	_, err = f.AwaitMarker(within(t, 30*time.Second), marker)
	require.NoError(t, err)
	apart(t, b.From, late)
	require.Contains(t, over(t, f).Message, "attached")
	require.Error(t, stop())
	apart(t, b.To, late)
	f, stop = watched(t, b)
	require.Eventually(t, noted(f, "public.m3"), 20*time.Second, 20*time.Millisecond)
	b.From.Exec(t, "update m set v = v || '!'; insert into m values (26, 'y')")
	marker, err = f.Mark(t.Context())
	require.NoError(t, err)
	_, err = f.AwaitMarker(within(t, 30*time.Second), marker)
	require.NoError(t, err)
	pgtest.MustEqual(t, b.From, b.To)
	require.NoError(t, stop())
}

// made says that the schema was brought by the migration, which knows the index a_known.
func made(t *testing.T, b *slottest.Bench) {
	t.Helper()
	b.Spec.DDL = migration.DDLApplySafe
	l := b.Ledger(t)
	var objects []ledger.Object
	for i, o := range []ledger.Object{
		{Kind: "TABLE", Name: "a"}, {Kind: "TABLE", Name: "m"}, {Kind: "TABLE", Name: "m1"}, {Kind: "INDEX", Name: "a_known"},
	} {
		o.No, o.DumpID, o.Section, o.Schema, o.State = i+1, i+1, "before", "public", ledger.ObjectDone
		objects = append(objects, o)
	}
	require.NoError(t, pgx.BeginFunc(t.Context(), l.Conn, func(tx pgx.Tx) error { return l.AddObjects(t.Context(), tx, objects) }))
}

func TestNewIndexesAndCommentsAreMadeOnTheTargetAndRefusedOnesStayNotes(t *testing.T) {
	t.Parallel()
	b := newWatched(t)
	made(t, b)
	// What was left out by order is not made later, what came while nobody looked is.
	apart(t, b.From, "create index a_known on a (v); create index a_v on a (lower(v), id desc) where id > 3; create index m_v on m (v); comment on table m is 'it''s m'")
	f := New(Config{Source: b.Source, Target: b.Target, Spec: b.Spec, Run: slottest.Run, Report: b.Report, Logger: zaptest.NewLogger(t), FollowDDL: true})
	f.shapesEvery = 50 * time.Millisecond
	stop := start(t, f)
	const indexes = "select indexname, regexp_replace(indexdef, '.* USING', '') from pg_indexes where schemaname = 'public' and indexname !~ 'pkey' order by 1"
	apart(t, b.From, "comment on column a.v is 'v'; comment on table a is 'x'; comment on table a is null; create index a_id on a using hash (id)")
	b.To.WaitUntil(t, "select exists (select from pg_indexes where indexname = 'a_id')")
	want := slices.DeleteFunc(b.From.Query(t, indexes), func(row []string) bool { return row[0] == "a_known" })
	b.To.WaitUntil(t, "select exists (select from pg_indexes where indexname = 'm1_v_idx')")
	require.Equal(t, want, b.To.Query(t, indexes))
	const comments = "select objoid::regclass::text, objsubid::text, description from pg_description where objoid in ('a'::regclass, 'm'::regclass, 'other'::regclass) order by 1, 2"
	b.To.WaitUntil(t, "select count(*) = 2 from ("+comments+") c")
	require.Equal(t, b.From.Query(t, comments), b.To.Query(t, comments))
	require.Empty(t, f.Status().Notes)

	// A unique one, one of a table that is not ours, one whose name is taken: a person decides, and the stream goes on.
	b.To.Exec(t, "create table taken (id int)")
	apart(t, b.From, "create unique index a_unique on a (v); create index other_v on other (v); create index taken on a (id)")
	for _, note := range []string{"public.a: index a_unique was added", "public.other: index other_v was added", "public.a: index taken was added"} {
		require.Eventually(t, noted(f, note), 20*time.Second, 20*time.Millisecond, "%v", f.Status().Notes)
	}
	apart(t, b.To, "create unique index a_unique on a (v); create index other_v on other (v); drop table taken")
	require.Eventually(t, func() bool { return len(f.Status().Notes) == 0 }, 20*time.Second, 20*time.Millisecond, "%v", f.Status().Notes)
	require.Equal(t, [][]string{{"1"}}, b.To.Query(t, "select count(*) from pg_indexes where indexname = 'taken'"))
	require.NoError(t, stop())
}
