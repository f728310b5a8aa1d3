package apply_test

import (
	"testing"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// vouched is a source of a merge whose keys never meet those of the others, at any one time.
func vouched(t *mapping.Table) { t.Merged, t.Existing = true, true }

// A row may be moved from one source of a merge to another: at no moment do both have it.
func TestRowMovesBetweenTheSourcesOfAMerge(t *testing.T) {
	t.Parallel()
	const ddl = "create table a (id int primary key, v text); create table b (id int primary key, v text)"
	r := newShared(t, ddl, "create table a (id int primary key, v text)", plans{"a": {vouched}, "b": {to("public.a"), vouched}})
	r.script("insert into a values (1, 'a'), (2, 'a'), (3, 'a'); insert into b values (11, 'b')")
	r.drain(0)
	r.script("insert into b values (12, 'b'); begin; delete from a where id = 1; insert into b values (1, 'moved'); commit;" +
		"begin; delete from a where id = 2; insert into b values (2, 'moved'); delete from b where id = 2; insert into a values (2, 'back'); commit;" +
		"begin; update a set id = 4 where id = 3; insert into b values (3, 'free'); commit;" +
		"begin; update b set id = 5 where id = 3; insert into a values (3, 'free again'); commit")
	r.drain(0)
	r.mustShow("select * from a union all select * from b order by 1", "select * from a order by 1")
}

// flat are partitions whose key is their own, in a table that is not partitioned.
func flat(t *testing.T, plan ...func(*mapping.Table)) *rig {
	t.Helper()
	const ddl = `create table p (id int, part int) partition by list (part); create table p1 partition of p for values in (1); create table p2 partition of p for values in (2);
		alter table p1 add primary key (id); alter table p2 add primary key (id)`
	into := append([]func(*mapping.Table){to("public.p"), func(t *mapping.Table) { t.Existing = true }}, plan...)
	return newShared(t, ddl, "create table p (id int primary key, part int)", plans{"p1": into, "p2": into})
}

func TestRowMovesBetweenPartitionsOfAFlatTable(t *testing.T) {
	t.Parallel()
	for name, plan := range map[string]func(*mapping.Table){"plain": func(*mapping.Table) {}, "filtered": where("id > 0")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := flat(t, plan)
			r.script("insert into p values (1, 1), (2, 2), (3, 1), (4, 2); update p set part = 3 - part; update p set part = 3 - part where id < 3; insert into p values (5, 1), (6, 2); update p set part = 3 - part; update p set part = 3 - part")
			r.drain(0)
			r.mustShow("select * from p order by 1", "select * from p order by 1")
		})
	}
}

func TestTruncatedPartitionLeavesTheOthersInAFlatTable(t *testing.T) {
	t.Parallel()
	r := flat(t)
	r.script("insert into p values (1, 1), (2, 2), (3, 1), (4, 2)")
	r.drain(0)
	r.script("truncate p1")
	mustFail(t, r.tryDrain(0), migration.FaultDrift)
	r.mustHold("select id from p order by 1", "1", "2", "3", "4")
}

func TestTruncatedTreeEmptiesAFlatTable(t *testing.T) {
	t.Parallel()
	r := flat(t)
	r.script("insert into p values (1, 1), (2, 2); truncate p; insert into p values (3, 2)")
	r.drain(0)
	r.mustHold("select id from p order by 1", "3")
}

// The constant of one source may be a value that another source's own column has.
func TestTruncateAsksWhereAnotherSourceMayHaveTheConstant(t *testing.T) {
	t.Parallel()
	const ddl = "create table a (region text, id int, primary key (region, id)); create table b (region text, id int, primary key (region, id))"
	r := newShared(t, ddl, "create table a (region text, id int, primary key (region, id))", plans{
		"a": {set("region", "'eu'"), vouched}, "b": {to("public.a"), vouched},
	})
	r.script("insert into a values ('x', 1); insert into b values ('eu', 2), ('us', 3)")
	r.drain(0)
	r.script("truncate a")
	mustFail(t, r.tryDrain(0), migration.FaultDrift)
	r.mustHold("select * from a order by id", "eu 1", "eu 2", "us 3")
}

// A band that is opened again, by a row that was read again, asks nothing of the copy's snapshots: they may be so old that
// ids of transactions have gone round.
func TestOldSnapshotsOfTheCopyAreNotAsked(t *testing.T) {
	t.Parallel()
	r := newShared(t, toasted, toasted, plans{"a": {keep}})
	r.target.Exec(t, "update dts_sync.tbl set stage = 'exact', smin = x || ':' || x || ':', smax = x || ':' || x || ':', hi_lsn = 'FFFFFFFF/0' from (select txid_current() + 1000000000 as x) y")
	r.script("insert into a values (1, 1, 'a')")
	r.drain(0)
	r.mustHold("select * from a", "1 1 a")
}
