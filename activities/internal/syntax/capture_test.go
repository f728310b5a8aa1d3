package syntax_test

import (
	"testing"

	"github.com/pgdts/pgdts/activities/internal/syntax"
	"github.com/pgdts/pgdts/workflows/migration"
)

// A new name in front of a column is never taken for something else that the statement calls so.
func TestANewNameCapturesNothing(t *testing.T) {
	t.Parallel()
	n := func(schema, name string) migration.TableName { return migration.TableName{Schema: schema, Name: name} }
	for _, c := range []struct {
		why, ddl, want string
		names          renames
	}{
		{
			"swapped, the inner one keeps its alias", `create view v as select 1 from x.a where exists (select 1 from x.b where id = a.id)`,
			`create view v as select 1 from x."b" as "a" where exists (select 1 from x."a" as "b" where id = a.id)`,
			renames{relations: map[migration.TableName]string{n("x", "a"): "b", n("x", "b"): "a"}},
		},
		{
			"the policy's own table has that name", `create policy p on x.a using (exists (select 1 from y.c where c.id = a.id))`,
			`create policy p on x.a using (exists (select 1 from y."a" as "c" where c.id = a.id))`,
			renames{relations: map[migration.TableName]string{n("y", "c"): "a"}},
		},
		{
			"the policy's own table gets that name", `create policy p on x.a using (exists (select 1 from y.c where c.id = a.id))`,
			`create policy p on x."z" using (exists (select 1 from y."z" as "c" where c.id = "z".id))`,
			renames{relations: map[migration.TableName]string{n("y", "c"): "z", n("x", "a"): "z"}},
		},
		{
			"alias of USING", `create view v as select 1 from x.p join x.q using (id) as j where exists (select 1 from y.c where c.id = j.id)`,
			`create view v as select 1 from x.p join x.q using (id) as j where exists (select 1 from y."j" as "c" where c.id = j.id)`,
			renames{relations: map[migration.TableName]string{n("y", "c"): "j"}},
		},
		{
			"a function's name before its parameter", `create function x.f(id int) returns bigint language sql begin atomic select count(*) from x.c where c.id = f.id; end`,
			`create function x.f(id int) returns bigint language sql begin atomic select count(*) from x."f" as "c" where c.id = f.id; end`,
			renames{relations: map[migration.TableName]string{n("x", "c"): "f"}},
		},
	} {
		if got, err := syntax.Rename(c.ddl, c.names); err != nil || got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s\nerror %v", c.why, got, c.want, err)
		}
	}
}
