package slot_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const someTables = `
create table keyed (id int primary key, v text);
create table plain (v text);
create table indexed (id int not null, v text);
create unique index indexed_id on indexed (id);
alter table indexed replica identity using index indexed_id;
create unlogged table scratch (id int primary key)`

func expected(t *testing.T, b *slottest.Bench) slot.Expected {
	t.Helper()
	expected, err := slot.Expect(t.Context(), b.Ledger(t))
	require.NoError(t, err)
	return expected
}

func published(t *testing.T, db *pgtest.DB, name string) string {
	t.Helper()
	return pgtest.Value[string](t, db,
		"select coalesce(string_agg(tablename, ' ' order by tablename), '') from pg_publication_tables where pubname = $1", name)
}

func TestPrepareRecordsWhereTheStreamBegins(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	start := b.Prepare(t)
	id := b.Spec.ID
	known, err := b.Ledger(t).Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, id.Slot(), known.Slot)
	require.Equal(t, start, known.Start)
	require.False(t, known.StartSnapshot.IsZero())
	require.Equal(t, []string{id.Publication(), id.PublicationInsertOnly()}, known.Publications)
	require.Equal(t, start, expected(t, b).Applied)
	require.Equal(t, start.String(), pgtest.Value[string](t, b.From,
		"select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", id.Slot()))
	require.Equal(t, "indexed keyed", published(t, b.From, id.Publication()))
	require.Equal(t, "plain", published(t, b.From, id.PublicationInsertOnly()))
	require.NoError(t, slot.Check(t.Context(), b.Connect(t, b.Source), expected(t, b)))

	require.Equal(t, start, b.Prepare(t), "a second call finds the same slot")
}

// A standby that keeps slots in step takes only those that say so.
func TestSlotIsOneThatStandbysTakeAlong(t *testing.T) {
	t.Parallel()
	for _, major := range []int{16, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := slottest.New(t, pgtest.Server(t, pgtest.Major(major)), someTables)
			b.Prepare(t)
			require.Equal(t, major >= 17, pgtest.Value[bool](t, b.From,
				"select coalesce((to_jsonb(s) ->> 'failover')::boolean, false) from pg_replication_slots s"))
		})
	}
}

func TestPublishingLeavesApplicationsUpdatesWorking(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), `
create table plain (v text);
create table nothing (id int primary key);
alter table nothing replica identity nothing;
create table deferred (id int primary key deferrable);
create table parent (id int primary key);
create table child () inherits (parent);
create table tree (id int, v text) partition by range (id);
create table tree_1 partition of tree for values from (0) to (10);
create table tree_2 partition of tree (primary key (id)) for values from (10) to (20);
create table keyedtree (id int primary key, v text) partition by range (id);
create table keyedtree_1 partition of keyedtree for values from (0) to (10)`)
	b.Prepare(t)
	for _, table := range []string{"plain", "nothing", "deferred", "parent", "child", "tree", "keyedtree"} {
		column := pgtest.Value[string](t, b.From, `select attname::text from pg_attribute
			where attrelid = $1::text::regclass and attnum = 1`, table)
		b.From.Exec(t, "insert into "+table+" ("+column+") values ('1')")
		b.From.Exec(t, "update "+table+" set "+column+" = '2'")
		b.From.Exec(t, "delete from "+table)
	}
	// A partition that is made later must be published, and must not be broken either.
	b.From.Exec(t, "create table keyedtree_2 partition of keyedtree for values from (10) to (20)")
	b.From.Exec(t, "insert into keyedtree values (11); update keyedtree set v = 'x'; delete from keyedtree")
	require.Equal(t, "keyedtree_1 keyedtree_2 parent tree_2", published(t, b.From, b.Spec.ID.Publication()))
	require.Equal(t, "child deferred nothing plain tree_1", published(t, b.From, b.Spec.ID.PublicationInsertOnly()))
}

func TestOldServersPublishPartitionsOneByOne(t *testing.T) {
	t.Parallel()
	for major, want := range map[int]string{10: "leaf marker", 12: "leaf marker", 14: "leaf", 17: "leaf"} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := slottest.New(t, pgtest.Server(t, pgtest.Major(major)), `
create table root (id int not null, v text) partition by range (id);
create table leaf partition of root (primary key (id)) for values from (0) to (10);
create table bare partition of root for values from (10) to (20)`)
			b.Prepare(t)
			require.NoError(t, slot.Check(t.Context(), b.Connect(t, b.Source), expected(t, b)))
			require.Equal(t, want, published(t, b.From, b.Spec.ID.Publication()))
			require.Equal(t, "bare", published(t, b.From, b.Spec.ID.PublicationInsertOnly()))
			b.From.Exec(t, "insert into root values (1), (11)")
			b.From.Exec(t, "update root set v = 'x'")
			b.Drop(t)
			require.Zero(t, pgtest.Value[int](t, b.From, "select count(*) from pg_namespace where nspname = 'dts_sync'"))
		})
	}
}

// What an administrator has made is taken as it is, or refused: it is neither changed nor dropped.
func TestAdministratorsPublicationIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	oid := func() int {
		return pgtest.Value[int](t, b.From, "select oid::int from pg_publication where pubname = $1", b.Spec.ID.Publication())
	}
	b.From.Exec(t, "create publication "+b.Spec.ID.Publication()+" for table only keyed, only indexed")
	made := oid()
	b.Prepare(t)
	require.Equal(t, made, oid())
	report, err := b.Ledger(t).Report(t.Context())
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(report.Notes), "publication "+b.Spec.ID.Publication()+" was found")
	for range 2 {
		owed, err := slot.Drop(t.Context(), b.Source, b.Ledger(t))
		require.NoError(t, err)
		require.Len(t, owed, 1)
		require.Contains(t, owed[0], `drop publication if exists "`+b.Spec.ID.Publication()+`"`)
	}
	require.Equal(t, made, oid())
	require.Zero(t, pgtest.Value[int](t, b.From, "select count(*) from pg_publication where pubname = $1", b.Spec.ID.PublicationInsertOnly()))
}

func TestPublicationOfSomebodyElseThatDiffersIsRefused(t *testing.T) {
	t.Parallel()
	for difference, tables := range map[string]string{
		"leaves out rows or columns of public.keyed": "for table only keyed where (id > 5), only indexed",
		"lacks public.indexed":                       "for table only keyed",
		"has besides public.scrap":                   "for table only keyed, only indexed, only scrap",
		"must publish all operations":                "for table only keyed, only indexed with (publish = 'insert')",
		"for all tables or for schemas":              "for all tables",
		"or for schemas":                             "for tables in schema public",
		"publishes partitions as their root":         "for table only keyed, only indexed with (publish_via_partition_root = true)",
	} {
		b := slottest.New(t, pgtest.Shared(t), someTables)
		b.From.Exec(t, "create table scrap (id int primary key)")
		config := b.Config(t)
		config.Tables = slices.DeleteFunc(config.Tables, func(table mapping.Table) bool { return table.Name.Name == "scrap" })
		b.From.Exec(t, "create publication "+b.Spec.ID.Publication()+" "+tables)
		_, err := slot.Prepare(t.Context(), config)
		fault := slottest.MustFault(t, migration.FaultDrift, err)
		require.Contains(t, fault.Message, difference)
		require.Contains(t, fault.Hint, "pgdts check")
		require.Contains(t, fault.Hint, "drop publication")
	}
}

// A process that died while it filled its publication is followed by one that makes it anew.
func TestOwnPublicationThatIsNotFullIsMadeAnew(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	b.From.Exec(t, "create publication "+b.Spec.ID.Publication()+"; comment on publication "+b.Spec.ID.Publication()+" is 'made by pgdts'")
	b.Prepare(t)
	require.Equal(t, "indexed keyed", published(t, b.From, b.Spec.ID.Publication()))
	b.Drop(t)
}

// A role with REPLICATION and the right to read migrates by what an administrator prepares: the statements are run as they
// stand, twice, and nothing of it is changed or dropped.
func TestReadingRoleUsesWhatAnAdministratorPrepared(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 13, 15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := slottest.New(t, pgtest.Server(t, pgtest.Major(major)), someTables+`;
create table root (id int not null, v text) partition by range (id);
create table leaf partition of root for values from (0) to (10)`)
			b.Spec.WithoutKey = migration.FullIdentity
			// Schema dts_sync may be there already, and closed: another migration's, or that of a target.
			b.From.Exec(t, "create role reader login replication; grant select on all tables in schema public to reader; create schema dts_sync")
			admin := b.Source
			b.Source = as(t, b, "reader")
			_, err := slot.Prepare(t.Context(), b.Config(t))
			_ = slottest.MustFault(t, migration.FaultPrivilege, err)
			b.Drop(t)

			conn := b.Connect(t, b.Source)
			wanted, err := slot.Want(t.Context(), conn, b.Spec, b.Config(t).Tables)
			require.NoError(t, err)
			require.False(t, wanted.Prepared())
			for range 2 {
				b.From.Exec(t, strings.Join(wanted.Statements("reader"), "\n"))
			}
			wanted, err = slot.Want(t.Context(), conn, b.Spec, b.Config(t).Tables)
			require.NoError(t, err)
			require.Empty(t, wanted.Lacking())
			require.Empty(t, wanted.Statements("reader"))

			before := b.From.Query(t, "select oid, xmin from pg_publication order by 1")
			b.Prepare(t)
			require.NoError(t, slot.Check(t.Context(), conn, expected(t, b)))
			_, err = slot.Emit(t.Context(), conn, b.Version(t), b.Spec.ID.Short()+"/marker/1/1")
			require.NoError(t, err)
			owed, err := slot.Drop(t.Context(), b.Source, b.Ledger(t))
			require.NoError(t, err)
			require.Equal(t, before, b.From.Query(t, "select oid, xmin from pg_publication order by 1"))
			require.Zero(t, pgtest.Value[int](t, b.From, "select count(*) from pg_replication_slots"))
			for _, line := range owed {
				if _, statements, found := strings.Cut(line, "dropped by: "); found {
					line = statements
				}
				b.From.Exec(t, line)
			}
			require.Equal(t, "d d", pgtest.Value[string](t, b.From,
				"select string_agg(relreplident::text, ' ') from pg_class where relname in ('plain', 'leaf')"), "what was recorded is owed")
			require.Zero(t, pgtest.Value[int](t, b.From, "select (select count(*) from pg_publication) + "+
				"(select count(*) from pg_class where relnamespace = (select oid from pg_namespace where nspname = 'dts_sync'))"))
			b.Source = admin
			b.Drop(t)
		})
	}
}

// as is the source as a role sees it.
func as(t *testing.T, b *slottest.Bench, role string) *pg.Server {
	t.Helper()
	uri, err := url.Parse(b.From.URI)
	require.NoError(t, err)
	uri.User = url.User(role)
	server, err := pg.NewServer(migration.Source, migration.Endpoint{URI: uri.String()}, nil)
	require.NoError(t, err)
	return server
}

func TestPlainRoleIsToldWhichRightsItLacks(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	config := b.Config(t)
	role := "plain_" + b.Spec.ID.Short()
	b.From.Exec(t, "create role "+role+" login")
	config.Source = as(t, b, role)
	_, err := slot.Prepare(t.Context(), config)
	require.Contains(t, slottest.MustFault(t, migration.FaultPrivilege, err).Hint, "create publication")
}

func TestFullIdentityIsSetAndRestored(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables+`; alter table plain replica identity nothing; create table other (v int)`)
	b.Spec.WithoutKey = migration.FullIdentity
	identities := func() string {
		return pgtest.Value[string](t, b.From, `select string_agg(relname || '=' || relreplident::text, ' ' order by relname)
			from pg_class where relname in ('plain', 'other', 'keyed')`)
	}
	b.Prepare(t)
	require.Equal(t, "keyed=d other=f plain=f", identities())
	require.Equal(t, "indexed keyed other plain", published(t, b.From, b.Spec.ID.Publication()))
	b.Drop(t)
	require.Equal(t, "keyed=d other=d plain=n", identities())
}

func TestDropLeavesNothing(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	b.Prepare(t)
	mustBeGone := func() {
		t.Helper()
		require.Equal(t, "0 0", pgtest.Value[string](t, b.From, `
			select (select count(*) from pg_replication_slots where database = current_database()) || ' ' ||
			       (select count(*) from pg_publication)`))
	}
	b.Drop(t)
	mustBeGone()
	b.Drop(t)
	mustBeGone()
}

func TestDropNeedsNothingButTheID(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	b.Prepare(t)
	b.To.Exec(t, "drop schema dts_sync cascade")
	owed, err := slot.Drop(t.Context(), b.Source, ledger.Ledger{ID: b.Spec.ID})
	require.NoError(t, err)
	require.Empty(t, owed)
	require.Zero(t, pgtest.Value[int](t, b.From, "select count(*) from pg_replication_slots where database = current_database()"))
}

func TestDropOfAnUnreachableSourceIsOwed(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	source := slottest.New(t, server, someTables)
	source.Prepare(t)
	require.NoError(t, server.Kill())
	owed, err := slot.Drop(t.Context(), source.Source, ledger.Ledger{ID: source.Spec.ID})
	_ = slottest.MustFault(t, migration.FaultConnection, err)
	require.Len(t, owed, 3)
	require.Contains(t, owed[0], source.Spec.ID.Slot())
}

func TestSlotLostIsNamedNotRecreated(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	b.Prepare(t)
	b.From.Exec(t, "select pg_drop_replication_slot($1)", b.Spec.ID.Slot())
	_, err := slot.Prepare(t.Context(), b.Config(t))
	require.NotEmpty(t, slottest.MustFault(t, migration.FaultSlotLost, err).Hint)
	err = slot.Check(t.Context(), b.Connect(t, b.Source), expected(t, b))
	_ = slottest.MustFault(t, migration.FaultSlotLost, err)
	require.Zero(t, pgtest.Value[int](t, b.From, "select count(*) from pg_replication_slots where slot_name = $1", b.Spec.ID.Slot()))
}

func watch(b *slottest.Bench) slot.WatchConfig {
	return slot.WatchConfig{
		Source: b.Source, Target: b.Target, ID: b.Spec.ID, Run: slottest.Run, Every: 10 * time.Millisecond, Logger: zap.NewNop(),
	}
}

func TestConsumedByAnotherIsAGap(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	start := b.Prepare(t)
	b.From.Exec(t, "insert into keyed values (1)")
	b.From.Exec(t, "select pg_replication_slot_advance($1, pg_current_wal_lsn())", b.Spec.ID.Slot())
	err := slot.Check(t.Context(), b.Connect(t, b.Source), expected(t, b))
	fault := slottest.MustFault(t, migration.FaultSlotLost, err)
	require.Contains(t, fault.Message, start.String())
	require.Contains(t, fault.Message, pgtest.Value[string](t, b.From,
		"select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", b.Spec.ID.Slot()))
}

func TestAnotherServerIsRefused(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	b.Prepare(t)
	wrong := expected(t, b)
	wrong.SystemID = "1"
	err := slot.Check(t.Context(), b.Connect(t, b.Source), wrong)
	_ = slottest.MustFault(t, migration.FaultWrongServer, err)
	wrong = expected(t, b)
	wrong.Timeline = 7
	err = slot.Check(t.Context(), b.Connect(t, b.Source), wrong)
	_ = slottest.MustFault(t, migration.FaultWrongServer, err)
}

func TestDroppedPublicationIsNoticed(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	b.Prepare(t)
	b.From.Exec(t, "drop publication "+b.Spec.ID.PublicationInsertOnly())
	err := slot.Check(t.Context(), b.Connect(t, b.Source), expected(t, b))
	_ = slottest.MustFault(t, migration.FaultDrift, err)
}

func TestWaitForOpenTransactionsIsReported(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	b := slottest.New(t, server, someTables)
	b.From.Exec(t, "begin; insert into keyed values (1); prepare transaction 'forgotten'")
	done := make(chan error, 1)
	config := b.Config(t)
	go func() {
		_, err := slot.Prepare(t.Context(), config)
		done <- err
	}()
	require.Eventually(t, func() bool {
		for _, beat := range b.Beats() {
			if strings.Contains(beat.Message, "'forgotten'") {
				return true
			}
		}
		return false
	}, 20*time.Second, 20*time.Millisecond)
	b.From.Exec(t, "commit prepared 'forgotten'")
	require.NoError(t, <-done)
}

func TestWatchReportsWhatTheSlotHolds(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	b.Prepare(t)
	before := pgtest.Value[string](t, b.To, "select lease_until::text from dts_sync.migration")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- slot.Watch(ctx, watch(b), b.Report) }()
	b.From.Exec(t, "insert into keyed select g, repeat('x', 100) from generate_series(1, 10000) g")
	require.Eventually(t, func() bool {
		beats := b.Beats()
		return len(beats) > 0 && beats[len(beats)-1].WALRetained > 1_000_000
	}, 20*time.Second, 10*time.Millisecond)
	b.To.WaitUntil(t, "select lease_until > '"+before+"' from dts_sync.migration")
	cancel()
	require.NoError(t, <-done)
}

func TestWatchEndsWhenTheLeaseIsTaken(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	b.Prepare(t)
	b.To.Exec(t, "update dts_sync.migration set run = 'other'")
	_ = slottest.MustFault(t, migration.FaultFenced, slot.Watch(t.Context(), watch(b), b.Report))
}

func TestEmitArrivesInTheLog(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	conn := b.Connect(t, b.Source)
	_, err := conn.Exec(t.Context(), "set default_transaction_read_only = on")
	require.NoError(t, err)
	position, err := slot.Emit(t.Context(), conn, b.Version(t), "abc/marker/1/1")
	require.NoError(t, err)
	require.NotZero(t, position)
}

// TestSlotSurvivesKillBetweenCreateAndRecord lets a child process die there and prepares again. The names of failpoints
// only mean something in a binary built with them, so that the child is built here.
func TestSlotSurvivesKillBetweenCreateAndRecord(t *testing.T) {
	t.Parallel()
	b := slottest.New(t, pgtest.Shared(t), someTables)
	binary := t.TempDir() + "/prepare.test"
	build := exec.Command("go", "test", "-c", "-tags", "failpoint", "-o", binary, ".")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, failpoint := range []string{"prepare-recorded", "prepare-created"} {
		child := exec.CommandContext(t.Context(), binary, "-test.run", "^TestPrepareInChild$")
		child.Env = append(os.Environ(), "PGDTS_FAILPOINT="+failpoint+"=kill", "PREPARE_SOURCE="+b.From.URI,
			"PREPARE_TARGET="+b.To.URI, "PREPARE_ID="+string(b.Spec.ID))
		out, err := child.CombinedOutput()
		require.ErrorContains(t, err, "killed", "%s", out)
	}
	require.Equal(t, 1, pgtest.Value[int](t, b.From, "select count(*) from pg_replication_slots where slot_name = $1", b.Spec.ID.Slot()))
	require.True(t, pgtest.Value[bool](t, b.To, "select start_snapshot is null from dts_sync.migration"))
	b.Prepare(t)
	require.NoError(t, slot.Check(t.Context(), b.Connect(t, b.Source), expected(t, b)))
	b.Drop(t)
	require.Zero(t, pgtest.Value[int](t, b.From, "select count(*) from pg_replication_slots where slot_name = $1", b.Spec.ID.Slot()))
}

// TestPrepareInChild is the process that dies.
func TestPrepareInChild(t *testing.T) {
	if os.Getenv("PREPARE_ID") == "" {
		return
	}
	b := slottest.Existing(t, migration.ID(os.Getenv("PREPARE_ID")), os.Getenv("PREPARE_SOURCE"), os.Getenv("PREPARE_TARGET"))
	b.Prepare(t)
}
