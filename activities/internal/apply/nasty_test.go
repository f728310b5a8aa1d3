package apply_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// begun are sessions of the source in the middle of a transaction.
func (r *rig) begun(sql ...string) []*pgx.Conn {
	r.t.Helper()
	var open []*pgx.Conn
	for _, statements := range sql {
		conn := r.source.Conn(r.t)
		_, err := conn.Exec(r.t.Context(), "begin; "+statements)
		must(r.t, err)
		open = append(open, conn)
	}
	return open
}

func (r *rig) end(conn *pgx.Conn, how string) {
	r.t.Helper()
	_, err := conn.Exec(r.t.Context(), how)
	must(r.t, err)
}

// inBand says under which snapshots a table was copied.
func (r *rig) inBand(table string, least, greatest migration.Snapshot, high migration.LSN) {
	r.t.Helper()
	r.target.Exec(r.t, "update dts_sync.tbl set stage = 'band', smin = $2, smax = $3, hi_lsn = $4::text::pg_lsn where name = $1",
		table, least.String(), greatest.String(), high.String())
}

// Prepared transactions end before, between and after the snapshots of the copy, and the process that applies changes ends
// between them too.
func TestPreparedTransactionsSpanTheCopyAndRestarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, bandTables)
	ctx := t.Context()
	gid := func(n int) string { return fmt.Sprintf("'%s_%d'", r.source.Name, n) }
	r.script("insert into t select c || n, n, n, repeat(c, 2500) from unnest(array['a', 'z']) c, generate_series(1, 9) n")
	for n := range 5 { // each changes a row of both chunks, moves one to the other chunk, and adds one
		low, high := fmt.Sprint("a", n+1), fmt.Sprint("z", n+1)
		r.script(fmt.Sprintf(`begin; update t set n = -n where k in ('%[1]s', '%[2]s'); update t set k = '%[2]s moved' where k = '%[1]s';
			insert into t values ('m%[3]d', 0, null, 'new'); delete from t where k = 'z9' and %[3]d = 4; prepare transaction %[4]s`, low, high, n, gid(n)))
	}
	r.script("commit prepared " + gid(0))
	from, to := r.source.Conn(t), r.target.Conn(t)
	least, _, err := r.chunk(ctx, from, to, "t", "k < 'm'")
	must(t, err)
	r.script("commit prepared " + gid(1) + "; rollback prepared " + gid(3))
	greatest, high, err := r.chunk(ctx, from, to, "t", "k >= 'm'")
	must(t, err)
	r.inBand("t", least, greatest, high)
	must(t, r.follow(1))
	r.script("commit prepared " + gid(2))
	r.start()
	must(t, r.follow(0))
	r.script("commit prepared " + gid(4))
	r.start()
	r.drain(0)
	r.mustEqual()
	r.mustHaveNoConflict()
}

// A snapshot lists the transactions that run, and of their subtransactions none when they are too many for its list. What
// of them was rolled back never comes, and the rest has the id of the whole.
func TestStormsOfSavepointsSpanTheCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t, "create table a (id int primary key, v int)")
	ctx := t.Context()
	r.source.Exec(t, `create procedure public.storm(first int, last int) language plpgsql as $$ begin for i in first..last loop begin
		insert into public.a values (i, 0); update public.a set v = i where id = i - 1; if i % 3 = 0 then raise exception 'rolled back'; end if;
		exception when raise_exception then null; end; end loop; end $$`)
	var deep strings.Builder
	for i := range 300 {
		fmt.Fprintf(&deep, "savepoint s%d; insert into a values (%d, 1); ", i, 1_000_001+i)
	}
	open := r.begun("call public.storm(1, 20000)", deep.String()+"rollback to s200", "call public.storm(200000, 220000)")
	r.end(open[0], "call public.storm(20001, 20100); commit")
	from, to := r.source.Conn(t), r.target.Conn(t)
	least, _, err := r.chunk(ctx, from, to, "a", "id < 10000")
	must(t, err)
	r.end(open[1], "savepoint more; update a set v = -1 where id < 15000; release more; commit")
	greatest, high, err := r.chunk(ctx, from, to, "a", "id >= 10000")
	must(t, err)
	r.inBand("a", least, greatest, high)
	r.end(open[2], "rollback")
	r.script("call public.storm(300000, 340000)")
	r.drain(0)
	r.mustEqual()
	r.mustHaveNoConflict()
}

// A source of another encoding, or of none, under writers: the servers convert, in the copy and in the stream.
func TestSourcesOfOtherEncodingsArriveInUTF8(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			source := pgtest.Database(t, pgtest.Shared(t))
			remake(t, source, encoding)
			ddl := strings.ReplaceAll(bandTables, ` collate "und-x-icu"`, "")
			r := newRigOf(t, source, pgtest.Database(t, pgtest.Shared(t)), ddl, ddl, func(*mapping.Table) {})
			raceTheCopy(t, r, 40, func(moment) {})
		})
	}
}

// remake gives a database another encoding. Its sessions speak UTF-8, as those of a migration do.
func remake(t *testing.T, db *pgtest.DB, encoding string) {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), db.Server.URI("postgres"))
	must(t, err)
	defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
	name := pgx.Identifier{db.Name}.Sanitize()
	for _, sql := range []string{"drop database " + name, fmt.Sprintf("create database %s encoding '%s' lc_collate 'C' lc_ctype 'C' template template0", name, encoding)} {
		_, err := admin.Exec(t.Context(), sql)
		must(t, err)
	}
	db.URI += "?client_encoding=UTF8"
}

// The identity changes between two changes and goes back: each change is read as it was sent.
func TestIdentitySwitchesBackAndForth(t *testing.T) {
	t.Parallel()
	const change = "; update a set n = n + 1; update a set id = id + 10 where id % 2 = 0; begin; update a set n = -n where id > 5; delete from a where id = 3; insert into a values (3, 0, 'again', 3); commit"
	script := "insert into a select g, 0, repeat('x', 3000) || g, g from generate_series(1, 9) g" + change +
		"; alter table a replica identity full" + change + "; alter table a replica identity default" + change +
		"; create unique index ak on a (id, k); alter table a replica identity full" + change +
		"; begin; update a set n = 7; alter table a replica identity default; update a set n = n + id; commit" + change
	for name, size := range map[string]int{"one by one": 1, "at once": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "create table a (id int primary key, n int, big text, k int not null); alter table a alter big set storage external")
			r.script(script)
			r.drain(size)
			r.mustEqual()
			r.mustHaveNoConflict()
		})
	}
}

// Without an identity the source refuses updates; insertions would go on, and what cannot be followed is not begun.
func TestIdentityThatIsGivenUpIsAFault(t *testing.T) {
	t.Parallel()
	r := newRig(t, "create table a (id int primary key)")
	r.script("insert into a values (1)")
	r.drain(0)
	r.script("alter table a replica identity nothing; insert into a values (2)")
	mustFail(t, r.tryDrain(0), migration.FaultDrift)
}

// An insertion needs no identity where rows had no key before.
func TestIdentityOfATableWithoutKeyMayGo(t *testing.T) {
	t.Parallel()
	r := newRig(t, "create table a (id int); alter table a replica identity full")
	r.script("insert into a values (1); alter table a replica identity nothing; insert into a values (2)")
	r.drain(0)
	r.mustEqual()
	r.mustHaveNoConflict()
}

// Columns of the target may be wider or narrower than those of the source, or not numbers at all. A number that does not fit stops
// the stream, and nothing of its transaction is there.
func TestWholeNumbersGoToColumnsOfOtherTypes(t *testing.T) {
	t.Parallel()
	r := newMapped(t, pgtest.Shared(t), pgtest.Shared(t), "create table a (id int primary key, small int2, large int8, word int, exact int8, flag int8)",
		"create domain few as int2 check (value < 100); create table a (id int8 primary key, small few, large int4, word text, exact numeric, flag bool)", func(*mapping.Table) {})
	mustHave := func(want string) {
		t.Helper()
		if got := pgtest.Value[string](t, r.target, "select string_agg(a::text, ' ' order by id) from a"); got != want {
			t.Fatalf("rows are %s, want %s", got, want)
		}
	}
	r.script("insert into a values (1, 99, -2147483648, -7, 9223372036854775807, 1), (2, null, 2147483647, null, -1, 0)")
	r.script("update a set id = 3, large = -large - 1 where id = 2; update a set small = -5, word = 8 where id = 1")
	r.drain(0)
	mustHave("(1,-5,-2147483648,8,9223372036854775807,t) (3,,-2147483648,,-1,f)")
	r.script("begin; update a set small = 1; update a set large = 2147483648 where id = 3; commit")
	if err := r.tryDrain(0); err == nil || !strings.Contains(err.Error(), "integer out of range") {
		t.Fatalf("error is %v", err)
	}
	mustHave("(1,-5,-2147483648,8,9223372036854775807,t) (3,,-2147483648,,-1,f)")
}
