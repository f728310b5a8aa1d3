package follow

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

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

func TestWhatTheStreamWouldMissStopsIt(t *testing.T) {
	t.Parallel()
	for name, each := range map[string]struct{ sql, says, object string }{
		"another table under its name": {"alter table a rename to a_old; create table a (id int primary key, v text)", "renamed to public.a_old, and another table has its name", "public.a"},
		"made again":                   {"drop table a; create table a (id int primary key, v text)", "dropped, and another table has its name", "public.a"},
		"attached with rows":           {late, "attached", "public.m3"},
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
