package precheck_test

import (
	"fmt"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const shop = `
	create schema sales;
	create sequence sales.number;
	create table sales.orders (id int primary key, note text);
	create table sales.item (id int primary key);
	insert into sales.orders values (1, 'a')`

// A role that has nothing is told everything that it lacks, and each fix, typed as it stands, is enough: at the end the
// plain role passes.
func TestPlainRoleOnTheSource(t *testing.T) {
	t.Parallel()
	owner := newRole(t, pgtest.Shared(t), "")
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.sourceRole = role
	p.source.Exec(t, shop)
	p.source.Exec(t, fmt.Sprintf(`alter table sales.orders owner to %s; alter table sales.orders enable row level security`, owner))

	items := p.check(t)
	right := items.mustBe(t, "REPLICATION_RIGHT", migration.ItemFailed, "role "+role, "replication;")
	read := items.mustBe(t, "SOURCE_SELECT", migration.ItemFailed, "may not read sales.item, sales.orders, sequence sales.number")
	publish := items.mustBe(t, "PUBLICATION_RIGHT", migration.ItemFailed, "may not create a publication", "does not own sales.item, sales.orders")
	items.mustBe(t, "FENCE_RIGHT", migration.ItemFailed, "close sales.item, sales.orders against writes")
	apply(t, p.source, right.Fix)
	apply(t, p.source, read.Fix)

	items = p.check(t)
	items.mustPass(t, "REPLICATION_RIGHT")
	hidden := items.mustBe(t, "SOURCE_SELECT", migration.ItemFailed, "row-level security hides rows", "sales.orders", "bypassrls;")
	apply(t, p.source, hidden.Fix)
	apply(t, p.source, publish.Fix)

	items = p.check(t)
	items.mustPass(t, "REPLICATION_RIGHT", "SOURCE_SELECT", "PUBLICATION_RIGHT", "FENCE_RIGHT", "SEQUENCES_BEHIND")
	for _, item := range items {
		if item.Blocks() && item.Side == migration.Source {
			t.Errorf("%s: %s (fix: %s)", item.Code, item.Found, item.Fix)
		}
	}
	// What the items promise is true: the role makes the publication and takes the lock.
	conn := p.as(t, p.source, role)
	for _, sql := range []string{
		"create publication p for table sales.orders, sales.item", "drop publication p",
		"begin", "lock table only sales.orders, only sales.item in share row exclusive mode", "rollback",
		"select * from sales.orders", "select last_value from sales.number",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// The owner of forced tables is subject to their policies too.
func TestForcedRowSecurityHidesRowsFromTheOwner(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.sourceRole = role
	p.source.Exec(t, fmt.Sprintf(`create table a (id int primary key); alter table a owner to %s; alter table a enable row level security`, role))
	p.check(t).mustPass(t, "SOURCE_SELECT")
	p.source.Exec(t, `alter table a force row level security`)
	p.check(t).mustBe(t, "SOURCE_SELECT", migration.ItemFailed, "row-level security", "public.a")
}

// Who asks for less of a fence needs less of a right.
func TestFenceRightFollowsTheDefinition(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.sourceRole = role
	p.source.Exec(t, fmt.Sprintf(`create table a (id int primary key); grant update on a to %s`, role))
	p.check(t).mustBe(t, "FENCE_RIGHT", migration.ItemFailed, "public.a")

	p.spec.Cutover.After = "none"
	p.check(t).mustPass(t, "FENCE_RIGHT")
	p.source.Exec(t, fmt.Sprintf(`revoke update on a from %s`, role))
	p.check(t).mustBe(t, "FENCE_RIGHT", migration.ItemFailed, "public.a")

	p.spec.Cutover.Fence = "read-only"
	item := p.check(t).mustBe(t, "FENCE_RIGHT", migration.ItemFailed, "does not own database")
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "FENCE_RIGHT")
	apply(t, p.source, fmt.Sprintf(`alter database "%s" owner to postgres`, p.source.Name))

	p.spec.Cutover.Fence = "none"
	p.check(t).mustPass(t, "FENCE_RIGHT")
}

func TestPlainRoleOnTheTarget(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.targetRole = role
	p.source.Exec(t, shop+`; create table public.a (id int primary key); create schema empty`)
	p.target.Exec(t, `create schema sales; create schema empty; revoke all on schema public from public`)

	items := p.check(t)
	item := items.mustBe(t, "TARGET_CREATE", migration.ItemFailed, "database "+p.target.Name+", schema public, schema sales of the target")
	replica := items.mustBe(t, "REPLICA_ROLE", migration.ItemNotice, "when the target is opened", "grant set on parameter")
	apply(t, p.target, item.Fix)
	if pgtest.Value[int](t, p.target, "select current_setting('server_version_num')::int") >= 150000 {
		apply(t, p.target, replica.Fix)
		later(t, p.target, "revoke set on parameter session_replication_role from "+role)
		p.check(t).mustPass(t, "REPLICA_ROLE")
	}
	p.check(t).mustPass(t, "TARGET_CREATE")
	conn := p.as(t, p.target, role)
	for _, sql := range []string{"create schema other", "create table sales.a ()", "create table public.a ()"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// Policies name roles, which no dump of a database holds: creating them would fail after hours of copying.
func TestRolesThatTheTargetLacks(t *testing.T) {
	t.Parallel()
	from := pgtest.Server(t)
	p := between(t, from, pgtest.Shared(t))
	reader, owner := newRole(t, from, ""), newRole(t, from, "")
	later(t, p.source, fmt.Sprintf("drop owned by %s, %s", reader, owner))
	p.source.Exec(t, fmt.Sprintf(`
		create table a (id int primary key); create policy p on a to %s using (true);
		create table b (id int primary key); alter table b owner to %s`, reader, owner))
	item := p.check(t).mustBe(t, "ROLES", migration.ItemFailed, reader, `create role "`+reader+`";`)
	p.spec.Schema.Owner = "keep"
	p.check(t).mustBe(t, "ROLES", migration.ItemFailed, reader, owner)
	p.spec.Schema.Owner = "target"
	apply(t, p.target, item.Fix)
	later(t, p.target, "drop role "+reader)
	p.check(t).mustPass(t, "ROLES")
}
