package precheck

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// readClosedSchemas lists those that are there and in which the role may not create.
const readClosedSchemas = `
select n.nspname::text, '' from pg_namespace n
where n.nspname = any ($1) and not (has_schema_privilege(n.oid, 'usage') and has_schema_privilege(n.oid, 'create'))
order by 1`

// readUsedSchemas leaves out those of the source in which there is nothing that would be created, such as an empty public.
const readUsedSchemas = `
select distinct n.nspname::text from pg_namespace n
where` + ofUsers + ` and (exists (select from pg_class c where c.relnamespace = n.oid and` + notOfExtension + `)
    or exists (select from pg_proc c where c.pronamespace = n.oid and` + notOfExtension + `)
    or exists (select from pg_type c where c.typnamespace = n.oid and` + notOfExtension + `))
order by 1`

// targetCreate tries what schemas are made of in one of its own. Schemas that are there already are asked for: nobody but
// their owner and those whom he lets may create in them.
func targetCreate(ctx context.Context, l *look) (finding, error) {
	refused, err := l.rehearseSchema(ctx)
	if err != nil {
		return finding{}, err
	}
	used, err := l.usedSchemas(ctx)
	if err != nil {
		return finding{}, err
	}
	closed, err := rows[migration.TableName](ctx, l.target, readClosedSchemas, used)
	if err != nil {
		return finding{}, err
	}
	var lacking, fixes []string
	if refused.refused() {
		lacking = append(lacking, "database "+l.target.server.Database())
		if fixes, err = l.toCreate(ctx, l.target); err != nil {
			return finding{}, err
		}
	}
	for _, schema := range closed {
		lacking = append(lacking, "schema "+schema.Schema)
		fixes = append(fixes, fmt.Sprintf("grant usage, create on schema %s to %s;", migration.Quote(schema.Schema), migration.Quote(l.target.role)))
	}
	switch {
	case len(lacking) == 0:
		return passed("role %s may create schemas and tables", l.target.role), nil
	case len(fixes) == 0:
		return failed(findOut("target"), "role %s may not create in %s of the target: %s",
			l.target.role, list(lacking), refused.text()), nil
	case refused.refused():
		return failed(statements(fixes), "role %s may not create in %s of the target: %s", l.target.role, list(lacking), refused.text()), nil
	}
	return failed(statements(fixes), "role %s may not create in %s of the target", l.target.role, list(lacking)), nil
}

// rehearseSchema makes one of each kind that nearly every schema has.
func (l *look) rehearseSchema(ctx context.Context) (refusal, error) {
	name := l.rehearsal()
	return l.target.rehearse(ctx, "create schema "+name, "create type "+name+".e as enum ('a')", "create sequence "+name+".s",
		"create table "+name+".t (id int primary key, e "+name+".e default 'a', n int references "+name+".t)",
		"create index on "+name+".t (n)", "create view "+name+".v as select id from "+name+".t",
		"create function "+name+".f() returns trigger language plpgsql as 'begin return new; end'",
		"create trigger t before insert on "+name+".t for each row execute procedure "+name+".f()",
		"create function "+name+".g(int) returns int language sql as 'select $1'")
}

const readCreateRights = `
select has_database_privilege(current_database(), 'create'), l.lanname::text, has_language_privilege(l.oid, 'usage')
from pg_language l where l.lanname in ('plpgsql', 'sql')`

// toCreate are the grants that a role lacks to create a schema with what belongs into it.
func (l *look) toCreate(ctx context.Context, s session) ([]string, error) {
	found, err := rows[struct {
		Create   bool
		Language string
		Usage    bool
	}](ctx, s, readCreateRights)
	var grants []string
	for i, f := range found {
		if i == 0 && !f.Create {
			grants = append(grants, fmt.Sprintf("grant create on database %s to %s;", migration.Quote(s.server.Database()), migration.Quote(s.role)))
		}
		if !f.Usage {
			grants = append(grants, fmt.Sprintf("grant usage on language %s to %s;", f.Language, migration.Quote(s.role)))
		}
	}
	return grants, err
}

// usedSchemas are those of the target in which the migration creates something. The ledger has its own.
func (l *look) usedSchemas(ctx context.Context) ([]string, error) {
	c, err := l.facts.chosen()
	if err != nil || !withSchema(l.Spec) {
		return []string{}, err
	}
	filled, err := rows[struct{ Name string }](ctx, l.source, readUsedSchemas)
	if err != nil {
		return nil, err
	}
	used := []string{}
	for _, schema := range filled {
		if c.WholeSchema(schema.Name) {
			used = append(used, c.Names.Schema(schema.Name))
		}
	}
	for _, table := range c.Tables {
		used = append(used, table.Target.Schema)
	}
	slices.Sort(used)
	return slices.Compact(used), nil
}

func schemaNames(found []migration.TableName) []string {
	schemas := make([]string, len(found))
	for i, f := range found {
		schemas[i] = f.Schema
	}
	return schemas
}

func replicaRole(ctx context.Context, l *look) (finding, error) {
	may, err := l.mayReplica(ctx)
	if err != nil {
		return finding{}, err
	}
	if !may {
		return notice(fmt.Sprintf("grant set on parameter session_replication_role to %s; -- 15 and later, as a superuser",
			migration.Quote(l.target.role)),
			"role %s may not set session_replication_role on the target: foreign keys and triggers are created when the target "+
				"is opened, and the foreign keys are checked after that", l.target.role), nil
	}
	return passed("role %s may set it: triggers and foreign keys stay still while changes are applied", l.target.role), nil
}

// mayReplica tries what the sessions that write will do.
func (l *look) mayReplica(ctx context.Context) (bool, error) {
	tx, err := l.target.conn.Begin(ctx)
	if err != nil {
		return false, err
	}
	may, err := pg.TryReplicaRole(ctx, l.target.conn)
	return may, errors.Join(err, tx.Rollback(ctx))
}

// readNamedRoles lists the roles that policies name, and with schema.owner = keep ($1) the owners of what is migrated: the
// tables $2, and what is in the schemas $3.
const readNamedRoles = `
select distinct r.rolname::text, ''
from pg_policy p cross join unnest(p.polroles) u (oid) join pg_roles r on r.oid = u.oid
where p.polrelid = any ($2)
union
select r.rolname::text, '' from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles r on r.oid = c.relowner
where $1 and (c.oid = any ($2) or c.relkind not in ('r', 'p') and n.nspname = any ($3))
order by 1`

const readMissingRoles = `
select w.name, '' from unnest($1::text[]) w (name) where not exists (select from pg_roles r where r.rolname = w.name) order by 1`

// roles: roles belong to a server, and no dump of one database holds them.
func roles(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	whole, err := l.wholeSchemas(ctx)
	if err != nil {
		return finding{}, err
	}
	named, err := rows[migration.TableName](ctx, l.source, readNamedRoles, l.Spec.Schema.Owner == "keep", oids(tables), whole)
	if err != nil {
		return finding{}, err
	}
	missing, err := rows[migration.TableName](ctx, l.target, readMissingRoles, schemaNames(named))
	if err != nil {
		return finding{}, err
	}
	if len(missing) == 0 {
		return passed("all are there"), nil
	}
	var fixes []string
	for _, role := range schemaNames(missing) {
		fixes = append(fixes, fmt.Sprintf("create role %s;", migration.Quote(role)))
	}
	return failed(statements(fixes), "policies (or owners, with schema.owner: keep) name roles that the target does not have: %s",
		list(schemaNames(missing))), nil
}
