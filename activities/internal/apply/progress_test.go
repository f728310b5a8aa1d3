package apply_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/apply"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const plain = "create table a (id int primary key, v text)"

func (r *rig) progress() ledger.Progress {
	r.t.Helper()
	p, err := ledger.Ledger{ID: r.spec.ID, Conn: r.conn}.Progress(r.t.Context())
	must(r.t, err)
	return p
}

func TestWhatIsDurableIsNeverAppliedTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain)
	r.script("insert into a values (1, 'a'); insert into a values (2, 'b'); delete from a where id = 1; insert into a values (1, 'c'); update a set v = v || 'x'")
	all := r.receive()
	for n := range len(all) + 1 {
		if n > 0 {
			must(t, r.applier.Apply(t.Context(), all[:n]))
		}
		a := r.start() // a new attempt receives everything again
		want := migration.LSN(0)
		if n > 0 {
			want = all[n-1].End
		}
		if n > 0 && (a.Position() != want || r.progress().End != want) {
			t.Fatalf("after %d transactions the position is %s, in the ledger %s, want %s", n, a.Position(), r.progress().End, want)
		}
	}
	must(t, r.applier.Apply(t.Context(), all))
	if n := r.applier.Stats().Changes; n != 0 {
		t.Fatalf("%d changes were applied again", n)
	}
	r.mustEqual()
	r.mustHaveNoConflict()
	if counted := pgtest.Value[int64](t, r.target, "select changes from dts_sync.migration"); counted != 6 {
		t.Fatalf("ledger counts %d changes", counted)
	}
	if at := r.progress().Commit; !at.Equal(all[len(all)-1].Time) {
		t.Fatalf("commit time is %s", at)
	}
}

func TestPartsOfAHugeTransactionAppearTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain+"; create table u (id int primary key, x int unique)")
	r.partBytes = 4000
	r.script(`insert into a values (0, 'before'); insert into u values (1, 1), (2, 2);
begin; insert into a select i, 'x' || i from generate_series(1, 500) i; update u set x = 0 where id = 1; update u set x = 1 where id = 2; update u set x = 2 where id = 1; update a set v = 'y' where id % 2 = 0; delete from a where id > 400; commit; insert into a values (1000, 'after')`)
	all := r.receive()
	first := slices.IndexFunc(all, func(tx wal.Transaction) bool { return !tx.Last })
	last := slices.IndexFunc(all, func(tx wal.Transaction) bool { return !tx.First && tx.Last })
	if first < 0 || last-first < 5 {
		t.Fatalf("the transaction came in %d parts", last-first+1)
	}
	for _, size := range []int{1, 3, len(all)} {
		r.start()
		for i, batch := range slices.Collect(slices.Chunk(all[:last], size)) {
			must(t, r.applier.Apply(t.Context(), batch))
			if n := pgtest.Value[int](t, r.target, "select count(*) from a where id > 0"); n != 0 {
				t.Fatalf("%d rows are visible after batch %d", n, i)
			}
		}
		if err := r.applier.Idle(t.Context(), all[last].End); err == nil {
			t.Fatal("an idle position inside a transaction was taken")
		}
	}
	r.start()
	must(t, r.applier.Apply(t.Context(), all))
	r.mustEqual()
	r.mustHaveNoConflict()
	r.start()
	must(t, r.applier.Apply(t.Context(), all[first+1:])) // parts of what is durable are skipped, wherever they begin
	if n := r.applier.Stats().Changes; n != 0 {
		t.Fatalf("%d changes were applied again", n)
	}
}

func TestLaterAttemptEndsTheEarlierOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain)
	old := r.start()
	r.script("insert into a values (1, 'a')")
	all := r.receive()
	r.applier = nil
	r.start()
	defer old.Close()
	mustFail(t, old.Apply(t.Context(), all), migration.FaultConnection)
	must(t, r.applier.Apply(t.Context(), all))
	r.mustEqual()
}

// The session of a frozen process may belong to another role, or be cut off: then only the row stops it.
func TestWriterWhosePlaceIsTakenWritesNothing(t *testing.T) {
	t.Parallel()
	for name, each := range map[string]struct {
		take string
		kind migration.FaultKind
	}{
		"by a later attempt":     {"update dts_sync.lane set token = token + 1", migration.FaultReplaced},
		"by another execution":   {"update dts_sync.migration set run = 'run-2'", migration.FaultFenced},
		"by its later attempt":   {"update dts_sync.migration set run = 'run-2'; update dts_sync.lane set token = token + 1", migration.FaultFenced},
		"by the opening":         {"update dts_sync.migration set opened_at = now()", migration.FaultFenced},
		"by a moved position":    {"update dts_sync.progress set end_lsn = 'FFFF/0'", migration.FaultReplaced},
		"by a writer's own lane": {"update dts_sync.progress set token = token + 1", migration.FaultReplaced},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, plain)
			r.start()
			r.script("insert into a values (1, 'a')")
			r.target.Exec(t, each.take)
			mustFail(t, r.tryDrain(0), each.kind)
			if n := pgtest.Value[int](t, r.target, "select count(*) from a"); n != 0 {
				t.Fatal("a fenced writer wrote")
			}
		})
	}
}

func TestTwoLanesCannotBothMoveThePosition(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain)
	r.start()
	lane, err := ledger.Ledger{ID: r.spec.ID, Conn: r.conn}.Enter(t.Context(), run, "cutover")
	must(t, err)
	other, err := apply.New(t.Context(), apply.Config{Source: r.from, Target: r.to, Lane: lane, Spec: r.spec, Logger: zap.NewNop()})
	must(t, err)
	defer other.Close()
	r.script("insert into a values (1, 'a')")
	all := r.receive()
	must(t, other.Apply(t.Context(), all))
	mustFail(t, r.applier.Apply(t.Context(), all), migration.FaultReplaced)
	r.mustEqual()
}

func TestLostCommitIsFoundInTheLedger(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain)
	r.start()
	r.script("insert into a values (1, 'a')")
	all := r.receive()
	ctx, cancel := context.WithCancel(t.Context())
	locker := r.target.Conn(t)
	_, err := locker.Exec(t.Context(), "begin; lock table a")
	must(t, err)
	done := make(chan error)
	go func() { done <- r.applier.Apply(ctx, all) }()
	r.target.WaitUntil(t, "select count(*) > 0 from pg_locks where not granted and relation = 'a'::regclass")
	cancel()
	if err := <-done; err == nil {
		t.Fatal("a cancelled call succeeded")
	}
	_, err = locker.Exec(t.Context(), "rollback")
	must(t, err)
	r.start()
	must(t, r.applier.Apply(t.Context(), all))
	r.mustEqual()
}

func TestIdlePositionIsWrittenBeforeItIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain)
	a := r.start()
	before := a.Position()
	must(t, a.Idle(t.Context(), before+800))
	if a.Position() != before+800 || r.progress().End != before+800 {
		t.Fatalf("position is %s, in the ledger %s", a.Position(), r.progress().End)
	}
	must(t, a.Idle(t.Context(), before)) // never backwards
	if r.progress().End != before+800 {
		t.Fatal("position went back")
	}
}

func TestBandClosesWhenTheStreamHasPassedIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain+"; create table b (id int primary key)")
	high := r.start().Position() + 1000
	snapshot := pgtest.Value[string](t, r.source, "select txid_current_snapshot()::text")
	r.target.Exec(t, "update dts_sync.tbl set stage = 'band', smin = $1, smax = $1, hi_lsn = $2::text::pg_lsn, extra = array[$1]", snapshot, high.String())
	a := r.start()
	if counts := a.Tables(); counts != (migration.TableCounts{Total: 2, Copied: 2}) {
		t.Fatalf("counts are %+v", counts)
	}
	must(t, a.Idle(t.Context(), high-1))
	if a.Tables().Exact != 0 {
		t.Fatal("a band closed too early")
	}
	must(t, a.Idle(t.Context(), high))
	stages := r.target.Query(t, "select distinct stage, extra from dts_sync.tbl")
	if a.Tables().Exact != 2 || len(stages) != 1 || stages[0][0] != "exact" || stages[0][1] != "{}" {
		t.Fatalf("counts are %+v, stages %v", a.Tables(), stages)
	}
}

// Each alteration is made on the source; the remedy is what the fault advises, on the target.
var alterations = []struct{ name, alter, change, says, remedy string }{
	{"column added", "alter table a add column n int", "insert into a values (2, 'b', 5)", `column "n" integer added`, "alter table a add column n int"},
	{"column dropped", "alter table a drop column v", "insert into a values (2)", `column "v" dropped`, "alter table a drop column v"},
	{"column renamed", "alter table a rename v to w", "insert into a values (2, 'b')", `column "v" renamed to "w"`, "alter table a rename v to w"},
	{"type changed", "alter table a alter v type varchar(5)", "insert into a values (2, 'b')", `type of column "v" changed from text to character varying(5)`, "alter table a alter v type varchar(5)"},
	{"type modifier changed", "alter table a alter c type char(7)", "insert into a values (2, 'b', 'c')", "from character(5) to character(7)", "alter table a alter c type char(7)"},
	{"key column's type changed", "alter table a alter id type bigint", "insert into a values (2000000000000, 'b')", "from integer to bigint", "alter table a alter id type bigint"},
	{"column added with a default", "alter table a add column n int not null default 7", "update a set v = 'c'", `column "n" integer added`, "alter table a add column n int not null default 7"},
}

func TestAlteredTableIsAFaultBeforeItsChangesAndGoesOnOnceTheTargetIsAlteredToo(t *testing.T) {
	t.Parallel()
	for _, alteration := range alterations {
		t.Run(alteration.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "create table a (id int primary key, v text, c char(5)); create table b (id int primary key)")
			if strings.Count(alteration.change, ",") == 2 && !strings.Contains(alteration.change, "'c')") {
				alteration.change = strings.Replace(alteration.change, "'b',", "'b', 'c',", 1)
			}
			r.script("insert into a values (1, 'a')")
			r.drain(0)
			r.script("insert into b values (1); " + alteration.alter + "; " + alteration.change)
			fault := mustFault(t, r.tryDrain(1), migration.FaultDrift)
			if !strings.Contains(fault.Message, alteration.says) || fault.Object != "public.a" || !strings.Contains(fault.Hint, "resume") {
				t.Fatalf("fault is %q, hint %q", fault.Message, fault.Hint)
			}
			if n := pgtest.Value[int](t, r.target, "select count(*) from b"); n != 1 {
				t.Fatal("what came before the alteration was not applied")
			}
			r.start()
			mustFail(t, r.tryDrain(0), migration.FaultDrift)
			r.target.Exec(t, alteration.remedy)
			r.start()
			r.drain(0)
			r.mustEqual()
		})
	}
}

func TestLostKeyIsAFault(t *testing.T) {
	t.Parallel()
	r := newRig(t, "create table a (id int primary key, k int not null unique)")
	r.script("insert into a values (1, 1)")
	r.drain(0)
	r.script("alter table a drop constraint a_pkey; alter table a replica identity using index a_k_key; update a set id = 2")
	fault := mustFault(t, r.tryDrain(0), migration.FaultDrift)
	if !strings.Contains(fault.Message, "replica identity changed from (id) to (k)") {
		t.Fatalf("fault is %q", fault.Message)
	}
}

func TestStrongerIdentityIsWelcome(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain)
	r.script("insert into a values (1, 'a'); alter table a replica identity full; update a set v = 'b'; update a set id = 2; delete from a; insert into a values (3, 'c')")
	r.drain(0)
	r.mustEqual()
	r.mustHaveNoConflict()
}

const rooted = `create table a (k int primary key, v text) partition by range (k); create table a1 partition of a for values from (0) to (10)`

// rootPublished publishes the root, so that partitions made later are published too.
func rootPublished(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, rooted)
	r.source.Exec(t, "alter publication "+r.spec.ID.Publication()+" set table a")
	r.script("insert into a values (1, 'a')")
	r.drain(0)
	r.script("create table a2 partition of a for values from (10) to (20); insert into a values (11, 'b'), (2, 'c'); update a set v = 'd'; update a set k = 12 where k = 1")
	return r
}

func TestPartitionMadeLaterGoesToTheSamePartition(t *testing.T) {
	t.Parallel()
	r := rootPublished(t)
	fault := mustFault(t, r.tryDrain(0), migration.FaultDrift)
	if !strings.Contains(fault.Hint, `create table "public"."a2" partition of "public"."a" FOR VALUES FROM (10) TO (20)`) {
		t.Fatalf("hint is %q", fault.Hint)
	}
	r.target.Exec(t, "create table a2 partition of a for values from (10) to (20)")
	r.start()
	r.drain(0)
	r.script("truncate a2; insert into a values (15, 'x')")
	r.drain(0)
	r.mustEqual()
	r.mustHaveNoConflict()
}

func TestPartitionMadeLaterGoesToTheRoot(t *testing.T) {
	t.Parallel()
	r := rootPublished(t)
	r.target.Exec(t, "create table rest partition of a default")
	r.drain(0)
	if got := fmt.Sprint(r.target.Query(t, "select * from a order by k")); got != fmt.Sprint(r.source.Query(t, "select * from a order by k")) {
		t.Fatalf("target has %s", got)
	}
	r.mustHaveNoConflict()
	r.script("truncate a2")
	mustFail(t, r.tryDrain(0), migration.FaultDrift)
}

func TestUnknownTableIsAFault(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain)
	r.script("create table b (id int primary key)")
	r.source.Exec(t, "alter publication "+r.spec.ID.Publication()+" add table b")
	r.script("insert into b values (1)")
	fault := mustFault(t, r.tryDrain(0), migration.FaultDrift)
	if fault.Object != "public.b" {
		t.Fatalf("fault is %v", fault)
	}
}

// The target's session is ended again and again, at any moment.
func TestSessionsThatEndAnywhereLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, bandTables+"; alter table t add unique (u)")
	w := &writer{rand.New(rand.NewPCG(7, 7)), r.source.Conn(t), r.source.Name}
	for n := range 400 {
		must(t, w.transaction(t.Context(), n))
	}
	all := r.receive()
	ended := make(chan struct{})
	killer := r.target.Conn(t)
	kills := 0
	go func() {
		defer close(ended)
		for kills < 25 {
			var n int
			if killer.QueryRow(t.Context(), `select count(pg_terminate_backend(pid)), pg_sleep(random() * 0.05) from pg_stat_activity
				where datname = current_database() and application_name like 'pgdts/%'`).Scan(&n, nil) != nil {
				return
			}
			kills += n
		}
	}()
	deaths := 0
	for done := false; !done; {
		lane, err := ledger.Ledger{ID: r.spec.ID, Conn: r.conn}.Enter(t.Context(), run, "stream")
		must(t, err)
		a, err := apply.New(t.Context(), apply.Config{Source: r.from, Target: r.to, Lane: lane, Spec: r.spec, Logger: zap.NewNop()})
		if err != nil {
			mustFail(t, err, migration.FaultConnection)
			continue
		}
		for batch := range slices.Chunk(all, 1+w.IntN(20)) {
			if err = a.Apply(t.Context(), batch); err != nil {
				mustFail(t, err, migration.FaultConnection)
				deaths++
				break
			}
		}
		select {
		case <-ended:
			done = err == nil
		default:
		}
		a.Close()
	}
	r.mustEqual()
	if n := pgtest.Value[int64](t, r.target, "select sum(conflicts)::int8 from dts_sync.tbl"); n != 0 || deaths == 0 {
		t.Fatalf("%d conflicts after %d deaths", n, deaths)
	}
	if changes, want := pgtest.Value[int64](t, r.target, "select changes from dts_sync.migration"), count(all); changes != want {
		t.Fatalf("%d changes counted, not %d", changes, want)
	}
}

func count(all []wal.Transaction) (changes int64) {
	for _, tx := range all {
		changes += int64(len(tx.Changes))
	}
	return changes
}

// Rows without a key are found by statements of as many shapes as there are sets of nulls.
func TestStatementsOfTheSessionStayBounded(t *testing.T) {
	t.Parallel()
	var columns, values []string
	for i := range 12 {
		columns = append(columns, fmt.Sprintf("c%d int", i))
		values = append(values, fmt.Sprintf("case when i & %d > 0 then 1 end", 1<<i))
	}
	r := newRig(t, "create table a ("+strings.Join(columns, ", ")+"); alter table a replica identity full")
	fill := "insert into a select " + strings.Join(values, ", ") + " from generate_series(0, 4095) i; delete from a"
	r.script(fill + "; " + fill + "; insert into a values (1)")
	r.drain(0)
	r.mustEqual()
	r.mustHaveNoConflict()
}

func TestTruncateWorksUnderAForeignKeyThatOnlyTheTargetHas(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain+"; create table c (id int primary key)")
	r.target.Exec(t, "alter table c add foreign key (id) references a")
	r.script("insert into a values (1, 'a'); truncate a; insert into a values (2, 'b')")
	r.drain(0)
	r.mustEqual()
	if n := pgtest.Value[int](t, r.target, "select sum(truncates)::int from dts_sync.tbl"); n != 1 {
		t.Fatalf("%d truncations counted", n)
	}
}

func TestWideTablesAndKeys(t *testing.T) {
	t.Parallel()
	var wide, key []string
	for i := range 1000 {
		wide = append(wide, fmt.Sprintf("c%d int", i))
	}
	for i := range 32 {
		key = append(key, fmt.Sprintf("k%d", i))
	}
	r := newRig(t, "create table wide (id int primary key, "+strings.Join(wide, ", ")+
		"); create table deep ("+strings.Join(key, " int, ")+" int, v text, primary key ("+strings.Join(key, ", ")+"))")
	r.script("insert into wide (id, c0, c999) values (1, 1, 1), (2, 2, 2); update wide set c500 = id; delete from wide where id = 1; update wide set id = 9;" +
		"insert into deep values (" + strings.Repeat("1, ", 32) + "'a'), (" + strings.Repeat("2, ", 32) + "'b'); update deep set v = v || 'x'; update deep set k31 = 5 where k0 = 1; delete from deep where k0 = 2")
	r.drain(0)
	r.mustEqual()
	r.mustHaveNoConflict()
}

// Statements and memory stay bounded: one transaction of more rows than one statement takes, and rows of a megabyte.
func TestLargeBatchesAreCut(t *testing.T) {
	t.Parallel()
	r := newRig(t, plain+"; create table big (id int primary key, v text)")
	r.script("insert into a select i, 'x' from generate_series(1, 45000) i; update a set v = 'y' where id % 2 = 0; delete from a where id % 3 = 0; insert into big select i, repeat(md5(i::text), 32768) from generate_series(1, 40) i")
	r.drain(0)
	r.mustEqual()
	r.mustHaveNoConflict()
}

func TestApplierWithoutReplicaRoleDefersConstraints(t *testing.T) {
	t.Parallel()
	r := newRig(t, "create table a (id int primary key, u int unique deferrable)")
	role := "apply_" + r.target.Name
	r.target.Exec(t, fmt.Sprintf(`create role "%[1]s" login; grant all on schema dts_sync to "%[1]s"; grant all on all tables in schema dts_sync to "%[1]s"; alter table a owner to "%[1]s"; grant pg_signal_backend to "%[1]s"`, role))
	defer func() {
		r.applier.Close()
		r.target.Exec(t, fmt.Sprintf(`reassign owned by "%[1]s" to current_user; drop owned by "%[1]s"; drop role "%[1]s"`, role))
	}()
	r.to = server(t, migration.Target, &pgtest.DB{URI: strings.Replace(r.target.URI, "postgres@", role+"@", 1)})
	r.script("insert into a values (1, 1), (2, 2); update a set u = 3 - u")
	r.drain(0)
	r.mustEqual()
}
