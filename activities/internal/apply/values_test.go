package apply_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
)

// The nasty cases, by number, and what shows that they arrive. A script is one of those below.
//
//	1      rows twice, NULLs, no key    scripts "full identity without key…", "no columns, but full identity"
//	2      deferrable primary key       script "deferrable primary key, full identity"
//	3      composite keys, NaN          scripts "composite key…", "padded key"
//	4 6    rotated and repeated keys    scripts "keys rotate", "one key many times…", "one key over four transactions"
//	5      key change, unchanged TOAST  TestMovedRowWithUnchangedToastIsReadAgain
//	7 8    TOAST                        scripts "unchanged toast", "toasted key"
//	9 10   unique and excluded values   scripts "unique values swap", "deferrable unique…", "excluded ranges move"
//	11     foreign keys                 scripts "foreign keys", "cyclic foreign keys"
//	13 14  identity, generated          scripts "identity always", "generated columns", "virtual generated columns"
//	15     partitions                   script "partitions", shared_test.go, TestPartitionMadeLater…; DETACH: none
//	16     inheritance                  script "inheritance"
//	17     TRUNCATE, COPY FREEZE        scripts "truncate", "truncated and copied anew in one transaction"
//	18     added and dropped columns    script "columns dropped before", TestAlteredTable…
//	20     wide tables, strange names   TestWideTablesAndKeys, script "strange names"
//	21     large rows                   package follow: TestRowOfManyMegabytes…; package stream: TestRowBeyondTheServersLimit…
//	22     text like something else     script of that name
//	23     keys equal, texts not        scripts "key under a collation…", "numeric keys…", "interval keys", "extension types…"
//	25-30  values                       scripts "types", "float keys", "domains over arrays and much precision"
//	35     idle database                package follow: TestIdleSourceIsConfirmed; package stream: TestIdleSourceAdvances
//	36     savepoints                   scripts "savepoint storm", "savepoints that were rolled back", TestStormsOfSavepoints…
//	37     prepared transactions        script "prepared transaction", TestPreparedTransactionsSpan…; package slot: TestWaitForOpenTransactions…
//	38     transaction ids go round     round_test.go, TestOldSnapshotsOfTheCopyAreNotAsked
//	40     encodings and settings       TestSourcesOfOtherEncodings…; package e2e: TestOddDatabase
//	41     identity changes             TestIdentity…, TestLostKeyIsAFault, TestStrongerIdentityIsWelcome
//	42     names change                 TestUnknownTableIsAFault; package follow: shapes_test.go
//	43     rows cross a filter          mapped_test.go, promise_test.go
//
// 12, 19, 24, 31 to 34 and 39 are not about changes of rows: precheck, copy, sequences.
//
// Each script runs on the source and must give the same rows on the target, applied whole, one transaction at a time,
// and folded into one batch.
var scripts = []struct {
	name, ddl, sql string
	since          int // the version that can do this
}{
	{"insert update delete", "create table a (id int primary key, v text)", `
insert into a select i, 'x' || i from generate_series(1, 50) i;
update a set v = v || '!' where id % 3 = 0;
delete from a where id % 5 = 0`, 10},
	{"no columns, and only generated ones", "create table a (); create table b (g int generated always as (7) stored)", `
insert into a default values; begin; insert into a default values; insert into a default values; insert into b default values; commit; truncate a; insert into a default values`, 12},
	{"one key many times in one transaction", "create table a (id int primary key, v text, w int)", `
insert into a values (1, 'a', 1);
begin; update a set v = 'b' where id = 1; delete from a where id = 1; insert into a values (1, 'c', 3); update a set w = 4 where id = 1; commit;
begin; insert into a values (2, 'a', 1); update a set v = 'b' where id = 2; delete from a where id = 2; insert into a values (2, 'z', 9); commit;
begin; insert into a values (3, 'a', 1); delete from a where id = 3; commit`, 10},
	{"one key over four transactions", "create table a (id int primary key, v text)", `
insert into a values (1, 'a'); update a set v = 'b' where id = 1; delete from a where id = 1; insert into a values (1, 'c')`, 10},
	{"keys rotate", "create table a (id int primary key, v text)", `
insert into a values (1, 'a'), (2, 'b'), (3, 'c');
begin; update a set id = 0 where id = 1; update a set id = 1 where id = 2; update a set id = 2 where id = 3; update a set id = 3 where id = 0; commit;
update a set id = id + 10; update a set id = id + 1 where id = 13`, 10},
	{"unique values swap", "create table a (id int primary key, u int unique)", `
insert into a values (1, 1), (2, 2), (3, 3);
begin; update a set u = 0 where id = 1; update a set u = 1 where id = 2; update a set u = 2 where id = 1; commit;
begin; delete from a where id = 3; insert into a values (4, 3); commit`, 10},
	{"deferrable unique values swap in one statement", "create table a (id int primary key, u int unique deferrable)", `
insert into a values (1, 1), (2, 2); update a set u = 3 - u; update a set u = 3 - u`, 10},
	{"excluded ranges move", "create table a (id int primary key, r int4range, exclude using gist (r with &&))", `
insert into a values (1, '[1,5)'), (2, '[5,9)');
begin; update a set r = '[100,101)' where id = 1; update a set r = '[1,5)' where id = 2; update a set r = '[5,9)' where id = 1; commit`, 10},
	{"unchanged toast", "create table a (id int primary key, n int, big text, big2 text); alter table a alter big set storage external, alter big2 set storage external", `
insert into a values (1, 1, repeat('a', 9000), repeat('b', 9000)), (2, 1, repeat('c', 9000), null);
update a set n = 2;
begin; insert into a values (3, 1, repeat('d', 9000), repeat('e', 9000)); update a set n = 2 where id = 3; commit;
begin; update a set big = repeat('f', 9000) where id = 1; update a set n = 3 where id = 1; update a set big2 = 'short' where id = 1; commit;
begin; update a set id = 11 where id = 1; update a set n = 5 where id = 11; commit;
update a set id = 12, n = 7 where id = 2; update a set big = null where id = 12`, 10},
	{"toasted key", "create table a (k text primary key, n int); alter table a alter k set storage external", `
insert into a values (repeat('k', 2500), 1); update a set n = 2; update a set k = repeat('l', 2500); update a set n = 3; delete from a; insert into a values (repeat('k', 2500), 1)`, 10},
	{"numeric keys change their scale", "create table a (k numeric primary key, v text)", `
insert into a values (1.0, 'a'), (20, 'b'), ('NaN', 'n'), (0.00, 'z'); update a set k = 1.00 where k = 1; update a set v = 'c' where k = 1;
begin; delete from a where k = 20; insert into a values (20.0, 'd'); update a set k = 20.000 where k = 20; commit;
update a set v = v || '!'; delete from a where k = 1.000`, 10},
	{"float keys", "create table a (k float8 primary key, v text)", `
insert into a values ('-0', 'a'), ('NaN', 'n'), ('Infinity', 'i'), ('-Infinity', 'j'), (1e-310, 'd'), (0.1, 'x'); update a set k = 0 where k = 0; update a set v = v || '!';
begin; delete from a where k = 0; insert into a values ('-0', 'again'); commit`, 12},
	{"interval keys", "create table a (k interval primary key, v text)", `
insert into a values ('1 day', 'a'), ('48 hours', 'b'); update a set k = '24 hours' where k = '1 day'; update a set v = 'c' where k = '1 day';
begin; delete from a where k = '2 days'; insert into a values ('2 days', 'd'); update a set k = '48:00:00' where k = '2 days'; commit`, 10},
	{"key under a collation without order of case", "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); create table a (k text collate ci primary key, v text)", `
insert into a values ('A', '1'), ('b', '2'); update a set k = 'a' where k = 'A'; update a set v = '3' where k = 'A';
begin; delete from a where k = 'B'; insert into a values ('B', '4'); commit`, 12},
	{"icu key", `create table a (k text collate "und-x-icu" primary key, v text)`, `
insert into a values ('a', '1'), ('B', '2'), ('é', '3'), ('', '4'); update a set k = 'É' where k = 'é'; update a set v = v || '!'; delete from a where k = 'a'`, 10},
	{"padded key", "create table a (k char(5), n char(3), v text, primary key (k, n))", `
insert into a values ('a', 'b', '1'), ('abcde', '', '2'); update a set v = v || '!'; update a set k = 'z' where n = 'b'`, 10},
	{"composite key", "create table a (k text, i int, t timestamptz, v text, primary key (k, i, t))", `
insert into a values ('a', 1, 'infinity', 'x'), ('a', 1, '-infinity', 'y'), ('', 0, '2020-01-01', 'z'); update a set v = v || '!'; update a set i = i + 1 where k = 'a'; delete from a where k = ''`, 10},
	{"identity always", "create table a (id int generated always as identity primary key, v text); create table b (k text primary key, id int generated always as identity, v text, big text); alter table b alter big set storage external", `
insert into a (v) values ('a'), ('b'), ('c'); update a set v = 'd' where id = 2; update a set id = default where id = 1; delete from a where id = 3;
insert into b (k, v, big) values ('x', '1', repeat('q', 9000)), ('y', '2', null), ('z', '3', null); update b set v = 'n' where k = 'x'; update b set id = default where k = 'y'; update b set id = default, v = 'o' where k = 'x';
update b set k = 'xx' where k = 'x'; begin; delete from b where k = 'z'; insert into b (k) values ('z'); commit`, 10},
	{"generated columns", "create table a (id int primary key, g int generated always as (n * 2) stored, n int, v text)", `
insert into a (id, n, v) values (1, 1, 'a'), (2, 2, 'b'); update a set n = n + 1; update a set id = 5 where id = 1; delete from a where id = 2`, 12},
	{"nothing but a key", "create table a (x int, y int, primary key (x, y))", `
insert into a values (1, 1), (2, 2); update a set x = x; update a set y = 5 where x = 1; delete from a where x = 2`, 10},
	{"text that looks like something else", "create table a (id int primary key, v text)", `
insert into a values (1, 'null'), (2, '\N'), (3, '\.'), (4, ''), (5, null), (6, E'a\r\nb\tc\\d'), (7, '{}'), (8, 'NULL'), (9, E'\x01\x7f'), (10, '"'); update a set v = v || v`, 10},
	{"types", `create type mood as enum ('sad', 'ok'); create type pair as (a int, b text); create domain small as int check (value < 100); create type nested as (p pair, m mood[]);
create table a (id int primary key, e mood, c pair, d small, nn nested, ar int[], ta text[], ea mood[], r int4range, mr int4multirange, j json, jb jsonb, x xml, b bit(5), vb bit varying, m money, ch "char",
 i inet, ci cidr, mac macaddr, ts tsvector, tq tsquery, by bytea, dt date, tm time, tz timetz, iv interval, f4 float4, f8 float8, nu numeric(20, 4), u uuid, p point, po polygon, lsn pg_lsn, o oid, rc regclass, nm name, bc char(4), bo bool, tstz timestamptz, bp bpchar)`, `
insert into a values (1, 'sad', '(1,"a,b")', 5, row(row(2, 'x"y')::pair, '{sad,ok}'), '[0:2]={1,NULL,3}', '{NULL,"null","a\"b",""}', '{ok}', '[1,5)', '{[1,3),[7,9)}', '{"b":1,  "a":1.0,"a":2}', '{"b":1.50}', '<a> <b/></a>', '10101', '111', '12.34', 'q',
 '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', 'a:1 b:2', 'a & b', '\x00ff', '4713-01-01 BC', '24:00:00', '12:00:00+05:30', '-1 mons +2 days -03:00', 1.1, 0.1, 12345.6789, '6ecd8c99-4036-403d-bf84-cf8400f67836', '(1,2)', '((0,0),(1,1))', '16/B374D848', 4000000000, 'pg_class', 'nm', 'ab', true, 'infinity', 'ab  ');
insert into a (id) values (2);
update a set d = 6, j = '{"z": [1, 2]}', ch = '', ar = '{}', f8 = '-0', dt = 'infinity' where id = 1; update a set id = 3 where id = 1; update a set e = 'ok' where id = 2`, 14},
	{"whole numbers at their limits", "create domain even as int8 check (value % 2 = 0); create table a (s int2, i int4, b int8, e even, a int8[], v int8, primary key (b, s, i))", `
insert into a values (-32768, -2147483648, -9223372036854775808, -2, '{9223372036854775807,NULL}', 0), (32767, 2147483647, 9223372036854775807, 2, null, null), (0, 0, 0, 0, '{}', -1);
update a set v = 9223372036854775807 where s = 0; update a set v = null where i < 0; update a set e = e - 2; update a set s = -1, i = -1, b = -1 where s = 0; delete from a where s = 32767`, 10},
	{"strange names", `create schema "select"; create type "select"."Ty pe" as enum ('x'); create table "select"."Ta""b.l e" ("Id x" int, "выбор" "select"."Ty pe", "` + long63 + `" text, "n0" int, "t" int, "x" int, primary key ("Id x", "выбор"))`, `
insert into "select"."Ta""b.l e" values (1, 'x', 'a', 1, 2, 3); update "select"."Ta""b.l e" set n0 = 5, t = 6, x = 7; update "select"."Ta""b.l e" set "Id x" = 2`, 10},
	{"full identity without key, duplicates and nulls", "create table a (x int, n numeric, j json, p point, v text, xm xml, f float8); alter table a replica identity full", `
insert into a values (1, 1.0, '{"a":1}', '(1,2)', 'v', '<a/>', '-0'), (1, 1.0, '{"a":1}', '(1,2)', 'v', '<a/>', '-0'), (1, 1.00, '{"a":1}', '(1,2)', 'v', '<a/>', '0'), (null, null, null, null, null, null, null), (null, null, null, null, null, null, null);
update a set v = 'w' where ctid = (select min(ctid) from a where n::text = '1.00'); delete from a where ctid = (select min(ctid) from a where x is null); update a set x = 5, j = '{"a": 1}' where ctid = (select max(ctid) from a where x = 1);
begin; insert into a (x) values (7), (7), (7); delete from a where x = 7 and ctid = (select max(ctid) from a); update a set v = 'last' where x = 7; commit`, 10},
	{"full identity without key, toast", "create table a (x int, big text); alter table a alter big set storage external; alter table a replica identity full", `
insert into a values (1, repeat('a', 9000)), (2, repeat('b', 9000)); update a set x = x + 1; delete from a where x = 2`, 10},
	{"full identity with key", "create table a (id int primary key, n int, big text); alter table a alter big set storage external; alter table a replica identity full", `
insert into a values (1, 1, repeat('a', 9000)), (2, 2, null); update a set n = n + 1; update a set id = id + 10; update a set n = 9, id = 3 where id = 11; delete from a where id = 12`, 10},
	{"identity by another index", "create table a (id int primary key, k text not null, v int); create unique index ak on a (k); alter table a replica identity using index ak", `
insert into a values (1, 'a', 1), (2, 'b', 2); update a set v = 5 where id = 1; update a set k = 'c' where id = 1;
begin; update a set id = 0 where id = 1; update a set id = 1 where id = 2; update a set id = 2 where id = 0; commit; delete from a where k = 'b'`, 10},
	{"no key, insertions only", "create table a (x int, v text)", `insert into a select i, 'v' from generate_series(1, 10) i; insert into a values (1, 'v'); insert into a values (null, null)`, 10},
	{"full identity without key, identity always", "create table a (id int generated always as identity, v text); alter table a replica identity full", `
insert into a (v) values ('a'), ('b'); update a set v = 'c' where v = 'a'; update a set id = default where v = 'b'; delete from a where v = 'c'`, 10},
	{"truncate", "create table a (id int primary key); create table b (id int primary key, a int references a); create table c (id int primary key)", `
insert into a values (1), (2); insert into b values (1, 1); insert into c values (1);
begin; insert into a values (3); truncate a cascade; insert into a values (1), (9); commit; truncate c restart identity`, 11},
	{"foreign keys", "create table p (id int primary key); create table c (id int primary key, p int references p on delete cascade on update cascade, s int references c on delete set null)", `
begin; insert into c values (1, null, null); insert into p values (1), (2); insert into c values (2, 1, 1), (3, 2, 2); update c set p = 2 where id = 1; commit;
delete from p where id = 2; update p set id = 7 where id = 1; delete from c where id = 1`, 10},
	{"partitions", `create table a (k int, v text, primary key (k)) partition by range (k);
create table a1 partition of a for values from (0) to (10) partition by range (k); create table a11 partition of a1 for values from (0) to (5); create table a12 partition of a1 for values from (5) to (10); create table ad partition of a default`, `
insert into a values (1, 'a'), (6, 'b'), (50, 'c'); update a set k = 7 where k = 1; update a set k = 60 where k = 6; update a set v = 'z'; truncate a12; insert into a values (8, 'n'); begin; truncate a; insert into a values (3, 'q'); commit`, 11},
	{"inheritance", "create table p (id int primary key, v text); create table c (primary key (id)) inherits (p)", `
insert into p values (1, 'p'), (2, 'p'); insert into c values (1, 'c'), (3, 'c'); update only p set v = 'only' where id = 1; delete from only p where id = 2; update c set id = 2 where id = 3; truncate only p; insert into p values (3, 'x')`, 11},
	{"savepoints that were rolled back", "create table a (id int primary key, v int)", `
begin; insert into a values (1, 1); savepoint s; insert into a values (2, 2); update a set v = 9; rollback to s; insert into a values (2, 3); release s; commit`, 10},
	{"prepared transaction", "create table a (id int primary key, v int)", `
begin; insert into a values (1, 1); prepare transaction 'GID'; insert into a values (2, 2); commit prepared 'GID'; update a set v = v + 1`, 10},
	{"no columns, but full identity", "create table a (); alter table a replica identity full", `
insert into a default values; insert into a default values; insert into a default values; delete from a where ctid = (select min(ctid) from a); begin; insert into a default values; delete from a where ctid = (select max(ctid) from a); commit`, 11},
	{"deferrable primary key, full identity", "create table a (id int primary key deferrable, v text); alter table a replica identity full", `
insert into a values (1, 'a'), (2, 'b'), (3, 'c'); update a set id = 4 - id; begin; set constraints all deferred; update a set id = 1 where id = 3 and v = 'a'; delete from a where id = 1 and v = 'c'; commit; update a set v = v || '!'`, 10},
	{"composite key of what equals itself strangely", "create table a (k text, f float8, t timestamptz, n numeric, v text, primary key (k, f, t, n))", `
insert into a values ('', 'NaN', 'infinity', 'NaN', 'x'), ('a', '-0', '-infinity', 1.0, 'y'), ('a', 1e-310, '4713-01-01 BC', 1e1000, 'z'); update a set v = v || '!'; update a set f = 0, n = 1.00 where k = 'a' and n = 1;
begin; delete from a where k = ''; insert into a values ('', 'NaN', 'infinity', 'NaN', 'w'); update a set n = 0 where k = ''; commit`, 12},
	{"cyclic foreign keys", "create table a (id int primary key, b int); create table b (id int primary key, a int references a deferrable initially deferred); alter table a add foreign key (b) references b on delete set null deferrable initially deferred", `
begin; insert into a values (1, 1), (2, null); insert into b values (1, 1); commit; begin; insert into b values (2, 3); insert into a values (3, 2); commit; delete from b where id = 1; begin; delete from a where id = 3; delete from b where id = 2; commit`, 10},
	{"truncated and copied anew in one transaction", "create table a (id int primary key, v text)", `
insert into a values (1, 'old'); begin; truncate a; copy a (id) from program 'seq 1 20' with (freeze); update a set v = 'new' where id = 1; commit; begin; delete from a; copy a (id) from program 'seq 10 30'; commit`, 11},
	{"columns dropped before", "create table a (gone int, id int primary key, also text, v text, w int default 7); alter table a drop column gone, drop column also", `
insert into a values (1, 'a'), (2, 'b'); insert into a values (3, 'c', 3); update a set v = v || '!'; delete from a where id = 2`, 10},
	{"savepoint storm", `create table a (id int primary key, v int); create function storm(n int) returns void language plpgsql as $$ begin for i in 1..n loop begin
insert into a values (i, 0); update a set v = i where id = i - 1; if i % 3 = 0 then raise exception 'rolled back'; end if; exception when raise_exception then null; end; end loop; end $$`, `
select storm(3000); begin; savepoint a; delete from a where id < 100; savepoint b; delete from a; rollback to b; update a set v = -1; release a; commit`, 10},
	{"virtual generated columns", "create table a (id int primary key, n int, g int generated always as (n * 2) virtual)", `
insert into a (id, n) values (1, 1), (2, 2); update a set n = n + 1; delete from a where id = 2`, 18},
	{"domains over arrays and much precision", "create domain list as int[] check (array_length(value, 1) < 5); create table a (id int primary key, l list, n numeric, f4 float4, f8 float8)", `
insert into a values (1, '[5:6]={1,NULL}', 1e1000, 1e-45, 5e-324), (2, null, -1e-1000, '-0', 'Infinity'); update a set l = '{}', f8 = 1.7976931348623157e308, f4 = 3.4028235e38 where id = 1; update a set n = n * 10`, 12},
	{"extension types as keys", "create schema ext; create extension citext schema ext; create extension hstore schema ext; create table a (k ext.citext primary key, h ext.hstore)", `
insert into a values ('Ab', 'a=>1'), ('c', null); update a set h = 'b=>"2 3"' where k = 'aB'; update a set k = 'AB' where k = 'ab'; begin; delete from a where k = 'C'; insert into a values ('C', 'x=>y'); update a set k = 'c'  where k = 'C'; commit`, 10},
}

const long63 = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"

// All scripts share two pairs of databases, each in a schema of its own.
func TestEveryChangeArrivesAsItWas(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"one by one": 1, "at once": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runScripts(t, pgtest.Shared(t), pgtest.Shared(t), size, pgtest.Shared(t).Binaries.Major)
		})
	}
}

func TestEveryChangeArrivesBetweenVersions(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]int{{10, 18}, {18, 18}, {18, 11}, {14, 10}} {
		t.Run(fmt.Sprint(pair[0], " to ", pair[1]), func(t *testing.T) {
			t.Parallel()
			from, to := pgtest.Server(t, pgtest.Major(pair[0])), pgtest.Server(t, pgtest.Major(pair[1]))
			runScripts(t, from, to, 0, min(pair[0], pair[1]))
		})
	}
}

func runScripts(t *testing.T, from, to *pgserver.Server, size, version int) {
	var ddl strings.Builder
	for i, script := range scripts {
		if script.since <= version {
			fmt.Fprintf(&ddl, "create schema s%d; set search_path = s%d, ext, public; %s;\n", i, i, script.ddl)
		}
	}
	r := newRigOn(t, from, to, ddl.String())
	for i, script := range scripts {
		if script.since > version {
			continue
		}
		ok := t.Run(script.name, func(t *testing.T) {
			r.on(t).script(fmt.Sprintf("set search_path = s%d, ext, public; %s", i, strings.ReplaceAll(script.sql, "GID", r.source.Name)))
			r.drain(size)
			r.mustEqual()
			r.mustHaveNoConflict()
		})
		if !ok {
			return
		}
	}
}
