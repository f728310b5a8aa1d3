package precheck_test

import (
	"fmt"
	"slices"
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
	publish := items.mustBe(t, "PUBLICATION_RIGHT", migration.ItemFailed, "may not create a publication", "does not own sales.item, sales.orders",
		"create publication", `only "sales"."orders"`)
	fence := items.mustBe(t, "FENCE_RIGHT", migration.ItemFailed, "close sales.item, sales.orders against writes", "security definer")
	apply(t, p.source, right.Fix)
	apply(t, p.source, read.Fix)

	items = p.check(t)
	items.mustPass(t, "REPLICATION_RIGHT")
	hidden := items.mustBe(t, "SOURCE_SELECT", migration.ItemFailed, "row-level security hides rows", "sales.orders", "bypassrls;")
	apply(t, p.source, hidden.Fix)
	for range 2 { // as they stand, and again
		p.source.Exec(t, publish.Fix)
		p.source.Exec(t, fence.Fix)
	}
	items = p.check(t)
	items.mustPass(t, "REPLICATION_RIGHT", "SOURCE_SELECT", "PUBLICATION_RIGHT", "MARKER_RIGHT", "FENCE_RIGHT", "SEQUENCES_BEHIND")
	items.mustNotBlock(t, migration.Source)
	// What the items promise is true.
	conn := p.as(t, p.source, role)
	for _, sql := range []string{
		"begin", "select dts_sync.fence_lock_" + p.spec.ID.Short() + "('{}')",
		"select dts_sync.fence_block_" + p.spec.ID.Short() + "('there')", "rollback",
		"select * from sales.orders", "select last_value from sales.number",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	// A table that comes later is in neither.
	p.source.Exec(t, "create table sales.late (id int primary key); grant select on sales.late to "+role)
	items = p.check(t)
	publish = items.mustBe(t, "PUBLICATION_RIGHT", migration.ItemFailed, "does not own sales.item, sales.late, sales.orders", "it lacks sales.late")
	fence = items.mustBe(t, "FENCE_RIGHT", migration.ItemFailed, "is not as this definition needs it")
	p.source.Exec(t, publish.Fix)
	p.source.Exec(t, fence.Fix)
	p.check(t).mustPass(t, "PUBLICATION_RIGHT", "FENCE_RIGHT")
}

func (r report) mustNotBlock(t *testing.T, side migration.Side) {
	t.Helper()
	for _, item := range r {
		if item.Blocks() && item.Side == side {
			t.Errorf("%s: %s (fix: %s)", item.Code, item.Found, item.Fix)
		}
	}
}

// Each kind of role sees the items that are about it, on the versions where rights differ; what is printed for an
// administrator makes every one of them green.
func TestRightsOfSourceRoles(t *testing.T) {
	t.Parallel()
	const tables = `
		create table keyed (id int primary key, v text); create table keyless (v text); create unlogged table scratch (id int primary key);
		create sequence number`
	for _, major := range []int{10, 15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			from := pgtest.Server(t, pgtest.Major(major))
			for name, test := range map[string]struct {
				grants string // %[1]s is the role, %[2]s the database
				failed []string
			}{
				"superuser": {`alter role %[1]s superuser`, nil},
				"owner": {`alter role %[1]s replication; grant create on database "%[2]s" to %[1]s;
					alter table keyed owner to %[1]s; alter table keyless owner to %[1]s; alter table scratch owner to %[1]s; alter sequence number owner to %[1]s`, nil},
				"owner who may not create": {
					`alter role %[1]s replication; alter table keyed owner to %[1]s; alter table keyless owner to %[1]s;
					alter table scratch owner to %[1]s; alter sequence number owner to %[1]s`,
					[]string{"PUBLICATION_RIGHT", "MARKER_RIGHT", "FENCE_RIGHT"},
				},
				"owner of some": {
					`alter role %[1]s replication; grant create on database "%[2]s" to %[1]s; alter table keyed owner to %[1]s;
					grant select on all tables in schema public to %[1]s; grant select on all sequences in schema public to %[1]s`,
					[]string{"PUBLICATION_RIGHT", "FENCE_RIGHT"},
				},
				"reader": {
					`alter role %[1]s replication; grant select on all tables in schema public to %[1]s; grant select on all sequences in schema public to %[1]s`,
					[]string{"PUBLICATION_RIGHT", "MARKER_RIGHT", "FENCE_RIGHT"},
				},
				"nobody": {``, []string{"REPLICATION_RIGHT", "SOURCE_SELECT", "PUBLICATION_RIGHT", "MARKER_RIGHT", "FENCE_RIGHT"}},
			} {
				role := newRole(t, from, "")
				p := between(t, from, pgtest.Shared(t))
				p.sourceRole = role
				p.source.Exec(t, tables)
				if test.grants != "" {
					p.source.Exec(t, fmt.Sprintf(test.grants, role, p.source.Name))
				}
				items := p.check(t)
				for _, code := range []string{"REPLICATION_RIGHT", "SOURCE_SELECT", "PUBLICATION_RIGHT", "MARKER_RIGHT", "FENCE_RIGHT"} {
					state := migration.ItemPassed
					if slices.Contains(test.failed, code) && (code != "MARKER_RIGHT" || major < 14) {
						state = migration.ItemFailed
					}
					item := items.item(t, code)
					if item.State != state {
						t.Errorf("%s: %s is %s: %s", name, code, item.State, item.Found)
					}
					if item.State == migration.ItemFailed {
						p.source.Exec(t, item.Fix)
					}
				}
				p.check(t).mustPass(t, "REPLICATION_RIGHT", "SOURCE_SELECT", "PUBLICATION_RIGHT", "MARKER_RIGHT", "FENCE_RIGHT")
				p.source.Exec(t, "drop owned by "+role+" cascade")
			}
		})
	}
}

// Messages are for everybody unless somebody has thought otherwise.
func TestMessagesThatTheRoleMayNotWrite(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.sourceRole = role
	p.check(t).mustPass(t, "MARKER_RIGHT")
	p.source.Exec(t, "revoke execute on function pg_logical_emit_message(boolean, text, text) from public")
	item := p.check(t).mustBe(t, "MARKER_RIGHT", migration.ItemFailed, "may not write messages", "grant execute on function")
	p.source.Exec(t, item.Fix)
	p.check(t).mustPass(t, "MARKER_RIGHT")
}

// pg_dump locks every table of the database before it is asked for some of them.
func TestTablesBesideTheSelectionMustBeReadable(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.sourceRole = role
	p.source.Exec(t, "create table a (id int primary key); create table b (id int primary key); grant select on a to "+p.sourceRole)
	p.of(func(s *migration.Spec) { s.Objects = []migration.Object{{Table: "public.a"}} })
	item := p.check(t).mustBe(t, "SOURCE_SELECT", migration.ItemFailed, "public.b (which pg_dump reads)")
	apply(t, p.source, item.Fix)
	p.check(t).mustPass(t, "SOURCE_SELECT")
}

// What stands in the way of the right itself is told by the server: nothing is believed that was not tried.
func TestEventTriggerThatRefusesIsSeenBefore(t *testing.T) {
	t.Parallel()
	p := onShared(t)
	const refuse = `
		create function public.refuse() returns event_trigger language plpgsql as $$begin raise 'no changes on Fridays'; end$$;
		create event trigger refuse on ddl_command_end when tag in ('CREATE TABLE', 'CREATE SCHEMA') execute procedure public.refuse()`
	p.source.Exec(t, `create table a (id int primary key)`)
	p.source.Exec(t, refuse)
	p.target.Exec(t, refuse)
	items := p.check(t)
	items.mustBe(t, "PUBLICATION_RIGHT", migration.ItemFailed, "no changes on Fridays")
	items.mustBe(t, "FENCE_RIGHT", migration.ItemFailed, "no changes on Fridays")
	items.mustBe(t, "TARGET_CREATE", migration.ItemFailed, "no changes on Fridays")
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

func TestTemporaryTablesThatTheRoleMayNotMake(t *testing.T) {
	t.Parallel()
	role := newRole(t, pgtest.Shared(t), "")
	p := onShared(t)
	p.targetRole = role
	p.source.Exec(t, "create table a (id int primary key)")
	p.target.Exec(t, fmt.Sprintf(`revoke temporary on database "%s" from public`, p.target.Name))
	p.check(t).mustPass(t, "TEMPORARY_RIGHT")
	p.of(where("public.a", "id > 0"))
	item := p.check(t).mustBe(t, "TEMPORARY_RIGHT", migration.ItemFailed, "temporary tables", "grant temporary on database")
	apply(t, p.target, item.Fix)
	p.check(t).mustPass(t, "TEMPORARY_RIGHT")
}

// To give an object away takes membership in its new owner's role, and that role's right to create where the object is;
// since 16 membership alone is not enough.
func TestOwnersThatTheRoleMayNotGive(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 15, 17} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			to := pgtest.Server(t, pgtest.Major(major))
			owner := newRole(t, pgtest.Shared(t), "")
			role := newRole(t, to, "")
			p := between(t, pgtest.Shared(t), to)
			p.targetRole = role
			p.spec.Schema.Owner = "keep"
			p.source.Exec(t, fmt.Sprintf("create schema sales; create table sales.a (id int primary key); alter table sales.a owner to %s", owner))
			p.target.Exec(t, fmt.Sprintf(`create role %[1]s; grant create on database "%[2]s" to %[3]s; create schema sales authorization %[3]s;
				revoke create on schema public from public; grant create, usage on schema public to %[3]s`, owner, p.target.Name, role))
			item := p.check(t).mustBe(t, "OWNER_RIGHT", migration.ItemFailed, "may not give objects to "+owner, owner+" may not own objects in schema sales")
			if major >= 16 {
				p.target.Exec(t, fmt.Sprintf("grant %s to %s with set false", owner, role))
				p.check(t).mustBe(t, "OWNER_RIGHT", migration.ItemFailed, "may not set it", "with set true;")
			}
			p.target.Exec(t, item.Fix)
			if major >= 16 { // a membership that is there is changed only as it is said to
				p.target.Exec(t, p.check(t).item(t, "OWNER_RIGHT").Fix)
			}
			item = p.check(t).item(t, "OWNER_RIGHT")
			mustRead(t, item, migration.ItemNotice, "objects of superuser postgres")
			conn := p.as(t, p.target, role)
			if _, err := conn.Exec(t.Context(), "create table sales.a (); alter table sales.a owner to "+owner); err != nil {
				t.Error(err)
			}
			p.spec.Schema.Owner = "target"
			p.check(t).mustPass(t, "OWNER_RIGHT")
		})
	}
}

// Services keep rights of a superuser for roles of theirs, which are shown.
func TestRolesOfServicesAreShown(t *testing.T) {
	t.Parallel()
	from := pgtest.Server(t)
	role := newRole(t, from, "replication")
	p := between(t, from, pgtest.Shared(t))
	p.sourceRole = role
	p.source.Exec(t, fmt.Sprintf("create role rds_superuser; create role rds_replication; grant rds_superuser, rds_replication to %s", role))
	p.check(t).mustBe(t, "REPLICATION_RIGHT", migration.ItemPassed, "rds_replication, rds_superuser")
}
