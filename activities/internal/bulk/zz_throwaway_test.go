package bulk_test
import ("testing";"time";"github.com/pgdts/pgdts/tests/pgtest")
func TestThrowawayMany(t *testing.T) {
	b := newBench(t, "select 1")
	for range 40 {
		for _, db := range []*pgtest.DB{b.source,b.target} { db.Exec(t, `do $$ declare n int := (select count(*) from pg_class where relname like 'tt%'); begin
			for i in 1..100 loop execute format('create table tt_%s_%s (a int primary key, b text)', n, i); end loop; end $$`) }
	}
	s:=time.Now(); p:=b.plan(); t.Log("plan", time.Since(s), p)
	s=time.Now(); c:=b.copy(2); t.Log("copy", time.Since(s), c)
}
func TestThrowawayBig(t *testing.T) {
	b := newBench(t, "create table big (a bigint primary key, b text, c int, d timestamptz)")
	b.source.Exec(t, "insert into big select g, md5(g::text)||md5(g::text), g, now() from generate_series(1,4000000) g")
	b.target.Exec(t,"alter table big drop constraint big_pkey")
	s:=time.Now(); p:=b.plan(); t.Log("plan", time.Since(s), p)
	s=time.Now(); c:=b.copy(2); t.Log("copy", time.Since(s), c)
}
