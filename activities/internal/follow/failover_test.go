package follow

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// pair is a migration whose source has a standby. Both are named, and the one that takes writes is the source.
type pair struct {
	*slottest.Bench
	primary, standby *pgserver.Server
	after            *pgtest.DB // the source's database on the standby
}

func withStandby(t *testing.T, major int) pair {
	t.Helper()
	primary := pgtest.Server(t, pgtest.Major(major))
	p := pair{primary: primary, standby: pgtest.Standby(t, primary)}
	b := slottest.New(t, pgtest.Shared(t), "")
	b.To.Exec(t, keyed)
	from := slottest.New(t, primary, keyed)
	b.From = from.From
	uri := fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/%s?target_session_attrs=read-write",
		primary.Port(), p.standby.Port(), b.From.Name)
	b.Spec.Source = migration.Endpoint{URI: uri}
	var err error
	b.Source, err = pg.NewServer(migration.Source, b.Spec.Source, nil)
	require.NoError(t, err)
	b.Prepare(t)
	exact(t, b)
	p.Bench, p.after = b, b.From.On(p.standby)
	return p
}

// follow runs a follower until everything that the source has now is on the target.
func (p pair) follow(t *testing.T) *Follower {
	t.Helper()
	f := p.follower(t)
	stop := start(t, f)
	awaitMark(t, f, time.Minute)
	require.NoError(t, stop())
	return f
}

func (p pair) follower(t *testing.T) *Follower {
	t.Helper()
	return New(Config{
		Source: p.Source, Target: p.Target, Spec: p.Spec, Run: slottest.Run, Report: p.Report, Logger: zaptest.NewLogger(t),
		FollowFailover: true,
	})
}

// synced waits until the standby has the slot, which it takes once the slot has moved past where the standby began. All that
// the source has is on the target then.
func (p pair) synced(t *testing.T) {
	t.Helper()
	require.NoError(t, p.standby.Set(t.Context(), "sync_replication_slots", "on"))
	f := p.follower(t)
	stop := start(t, f)
	for deadline := time.Now().Add(time.Minute); ; {
		require.True(t, time.Now().Before(deadline))
		p.From.Exec(t, "select pg_log_standby_snapshot()") // where a slot can begin
		awaitMark(t, f, time.Minute)
		if pgtest.Value[bool](t, p.after, "select coalesce(bool_or(synced and not temporary), false) from pg_replication_slots") {
			break
		}
	}
	require.NoError(t, stop())
}

// arrived waits until the standby has everything that the primary has.
func (p pair) arrived(t *testing.T) {
	t.Helper()
	p.after.WaitUntil(t, "select pg_last_wal_replay_lsn() >= '"+pgtest.Value[string](t, p.From, "select pg_current_wal_lsn()::text")+"'")
}

func (p pair) promote(t *testing.T) {
	t.Helper()
	require.NoError(t, p.primary.Kill())
	p.after.Exec(t, "select pg_promote()")
	p.after.WaitUntil(t, "select not pg_is_in_recovery()")
}

func (p pair) timeline(t *testing.T) int {
	t.Helper()
	return pgtest.Value[int](t, p.To, "select source_timeline from dts_sync.migration where id = $1", p.Spec.ID)
}

func (p pair) refused(t *testing.T, words ...string) {
	t.Helper()
	const standing = "select source_timeline || ' ' || notes::text || end_lsn from dts_sync.migration, dts_sync.progress where migration = id"
	before := pgtest.Value[string](t, p.To, standing)
	fault := slottest.MustFault(t, migration.FaultWrongServer, p.follower(t).Run(within(t, time.Minute)))
	require.Contains(t, fault.Message, "timeline 2 answered, the migration began on timeline 1")
	for _, word := range append(words, "run --again") {
		require.Contains(t, fault.Hint, word)
	}
	require.Equal(t, before, pgtest.Value[string](t, p.To, standing))
}

// The slot came along, the standby has all that the target has: the stream goes on where it was, with what was written
// before and after the failover.
func TestPromotedStandbyIsFollowed(t *testing.T) {
	t.Parallel()
	p := withStandby(t, 18)
	p.From.Exec(t, "insert into keyed select g, 'before' from generate_series(1, 1000) g")
	p.synced(t)
	p.From.Exec(t, "update keyed set v = 'not applied before the failover' where id % 7 = 0; delete from keyed where id % 11 = 0")
	p.arrived(t)
	p.promote(t)
	f := p.follow(t)
	require.Equal(t, 2, p.timeline(t))
	require.Equal(t, -1, pgtest.Value[int](t, p.To, "select writes_base::int from dts_sync.tbl"), "the new primary counts from nothing")
	notes := f.Status().Notes
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "from timeline 1 to 2")
	pgtest.MustEqual(t, p.after, p.To)
	p.after.Exec(t, "insert into keyed select g, 'after' from generate_series(2001, 3000) g; update keyed set v = v || '!' where id < 500")
	f = p.follow(t)
	require.Equal(t, notes, f.Status().Notes, "it is said by later attempts too, once")
	pgtest.MustEqual(t, p.after, p.To)
	report, err := p.Ledger(t).Report(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(fmt.Sprint(report.Notes), "failed over"))
	p.Drop(t)
	require.Zero(t, pgtest.Value[int](t, p.after, "select count(*)::int from pg_replication_slots where slot_name = $1", p.Spec.ID.Slot()))
}

// A standby that lags has lost what the target has. Nothing moves, whatever else is in order.
func TestStandbyThatLaggedIsRefused(t *testing.T) {
	t.Parallel()
	p := withStandby(t, 17)
	p.From.Exec(t, "insert into keyed values (1, 'everywhere')")
	p.synced(t)
	require.NoError(t, p.standby.Stop(pgserver.Fast))
	p.From.Exec(t, "insert into keyed values (2, 'not on the standby')")
	p.follow(t)
	require.Equal(t, 2, pgtest.Value[int](t, p.To, "select count(*)::int from keyed"))
	require.NoError(t, p.primary.Kill())
	require.NoError(t, p.standby.Restart(t.Context(), pgserver.Fast))
	p.after.Exec(t, "select pg_promote()")
	p.after.Exec(t, "insert into keyed values (3, 'on the new primary')")
	p.refused(t, "of which the source has lost those from")
	require.Equal(t, 1, p.timeline(t))
	require.Equal(t, 2, pgtest.Value[int](t, p.To, "select count(*)::int from keyed"), "nothing of the new timeline arrived")
}

// Every condition that does not hold is named, all at once.
func TestWhatStandsInTheWayOfAFailoverIsNamed(t *testing.T) {
	t.Parallel()
	p := withStandby(t, 17)
	p.synced(t)
	p.arrived(t)
	p.promote(t)
	p.To.Exec(t, "update dts_sync.tbl set stage = 'band'")
	p.refused(t, "tables that are not caught up with their copy: 1")
	p.To.Exec(t, "update dts_sync.tbl set stage = 'exact', extra = '{1:1:}'")
	p.refused(t, "tables that are not caught up with their copy: 1")
	p.To.Exec(t, "update dts_sync.tbl set extra = '{}'")
	p.To.Exec(t, "insert into dts_sync.chunk (migration, relid, no) select migration, relid, 7 from dts_sync.tbl")
	p.refused(t, "tables that are not caught up with their copy: 1")
	p.To.Exec(t, "delete from dts_sync.chunk where no = 7")
	// Made anew on the new primary under its name, it is neither in step nor where the target is.
	p.after.Exec(t, "select pg_drop_replication_slot($1)", p.Spec.ID.Slot())
	p.refused(t, "slot "+p.Spec.ID.Slot()+" is not there")
	p.after.Exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", p.Spec.ID.Slot())
	p.refused(t, "was not kept in step by the standby", "has forgotten changes up to")
	p.To.Exec(t, "update dts_sync.migration set source_timeline = 9")
	fault := slottest.MustFault(t, migration.FaultWrongServer, p.follower(t).Run(within(t, time.Minute)))
	require.Contains(t, fault.Hint, "its timeline does not come from timeline 9")
}

// Older servers take no slot along.
func TestPromotedStandbyOfAnOlderVersionIsRefused(t *testing.T) {
	t.Parallel()
	p := withStandby(t, 12)
	p.From.Exec(t, "insert into keyed values (1, 'x')")
	p.follow(t)
	p.arrived(t)
	p.promote(t)
	p.refused(t, "slot "+p.Spec.ID.Slot()+" is not there")
}

// What the source holds back for a standby that is away is no fault of the target: somebody must hear why nothing comes.
func TestSourceThatWaitsForItsStandbysIsNoted(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, pgtest.Major(17))
	_, err := pgtest.Database(t, server).Conn(t).Exec(t.Context(), "select pg_create_physical_replication_slot('away', true)")
	require.NoError(t, err)
	b := slottest.New(t, server, keyed)
	b.To.Exec(t, keyed)
	b.Prepare(t)
	exact(t, b)
	f := realFollower(t, b)
	stop := start(t, f)
	awaitMark(t, f, time.Minute)
	require.NoError(t, server.Set(t.Context(), "synchronized_standby_slots", "away"))
	b.From.Exec(t, "insert into keyed values (1, 'held back')")
	require.Eventually(t, func() bool { return strings.Contains(fmt.Sprint(f.Status().Notes), "synchronized_standby_slots") },
		30*time.Second, 50*time.Millisecond)
	require.Zero(t, pgtest.Value[int](t, b.To, "select count(*)::int from keyed"))
	require.NoError(t, server.Set(t.Context(), "synchronized_standby_slots", ""))
	awaitMark(t, f, time.Minute)
	require.Eventually(t, func() bool { return f.Status().Notes == nil }, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, stop())
	pgtest.MustEqual(t, b.From, b.To)
}
