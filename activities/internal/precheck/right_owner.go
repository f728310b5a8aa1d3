package precheck

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

// temporaryRight: rows that are kept, or that differ on purpose, are staged and compared by temporary tables.
func temporaryRight(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	wanted := l.Spec.Conflict == migration.ConflictIgnore
	for _, table := range tables {
		wanted = wanted || !table.Plain()
	}
	if !wanted {
		return passed("none is needed"), nil
	}
	refused, err := l.target.rehearse(ctx, "create temporary table pgdts_rehearsal (id int)")
	if err != nil || !refused.refused() {
		return passed("role %s makes temporary tables", l.target.role), err
	}
	return failed(fmt.Sprintf("grant temporary on database %s to %s;", migration.Quote(l.target.server.Database()), migration.Quote(l.target.role)),
		"role %s may not make temporary tables on the target, by which rows that differ on purpose are written and compared: %s",
		l.target.role, refused.text()), nil
}

// readOwners lists who owns what is migrated: the tables $1, what is in the schemas $2, and these schemas.
const readOwners = `
select pg_get_userbyid(o.owner)::text, coalesce(o.schema, '')::text from (
    select c.relowner as owner, n.nspname as schema
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = any ($1) or n.nspname = any ($2) and c.relkind not in ('r', 'p', 'i', 'I', 't')
    union
    select c.proowner, n.nspname from pg_proc c join pg_namespace n on n.oid = c.pronamespace where n.nspname = any ($2) and` + notOfExtension + `
    union
    select n.nspowner, null from pg_namespace n where n.nspname = any ($2)
) o order by 1, 2`

// readOwnable says of each role of the target whether the session's is a member of it, and may set it, and whether the
// role may create in the schemas that are there already. Roles that are not there are an item of their own.
const readOwnable = `
select r.rolname::text, r.rolsuper, pg_has_role(r.oid, 'member'), pg_has_role(r.oid, %s), coalesce(n.nspname, '')::text,
       coalesce(has_schema_privilege(r.oid, n.oid, 'create'), true)
from unnest($1::text[], $2::text[]) w (owner, schema) join pg_roles r on r.rolname = w.owner left join pg_namespace n on n.nspname = w.schema
where r.rolname !~ '^pg_'
order by 1, 5`

type ownable struct {
	Owner               string
	Super, Member, Sets bool
	Schema              string
	MayCreate           bool
}

// ownerRight: to give an object away takes membership in its new owner, which since 16 must be one that may set it; and the
// new owner needs the right to create where the object is. Objects of a role of which ours is no member stay with ours.
func ownerRight(ctx context.Context, l *look) (finding, error) {
	if l.Spec.Schema.Owner != "keep" || l.target.super {
		return passed("role %s gives everything its owner", l.target.role), nil
	}
	owners, schemas, err := l.owners(ctx)
	if err != nil {
		return finding{}, err
	}
	sets := "'member'"
	if l.target.version >= 160000 {
		sets = "'set'"
	}
	found, err := rows[ownable](ctx, l.target, fmt.Sprintf(readOwnable, sets), owners, schemas)
	if err != nil {
		return finding{}, err
	}
	var findings []finding
	for i, o := range found {
		if i == 0 || found[i-1].Owner != o.Owner {
			findings = append(findings, l.ownership(o)...)
		}
		if !o.MayCreate && !o.Super {
			findings = append(findings, failed(fmt.Sprintf("grant create on schema %s to %s;", migration.Quote(o.Schema), migration.Quote(o.Owner)),
				"%s may not own objects in schema %s of the target", o.Owner, o.Schema))
		}
	}
	if all := together(findings); all.state != "" {
		return all, nil
	}
	return passed("role %s may give everything its owner", l.target.role), nil
}

func (l *look) ownership(o ownable) []finding {
	grant := fmt.Sprintf("grant %s to %s;", migration.Quote(o.Owner), migration.Quote(l.target.role))
	switch {
	case o.Member && o.Sets:
		return nil
	case o.Member:
		return []finding{failed(strings.TrimSuffix(grant, ";")+" with set true;",
			"role %s is a member of %s and may not set it, so that it may not give objects to it", l.target.role, o.Owner)}
	case o.Super: // membership would make ours a superuser
		return []finding{notice("", "objects of superuser %s will belong to role %s on the target", o.Owner, l.target.role)}
	}
	return []finding{alert(grant, "role %s may not give objects to %s: they will belong to it on the target, though the definition says schema.owner: keep",
		l.target.role, o.Owner)}
}

// owners pairs each owner with the schemas, as they are called on the target, in which it gets something.
func (l *look) owners(ctx context.Context) (owners, schemas []string, err error) {
	c, err := l.facts.chosen()
	if err != nil {
		return nil, nil, err
	}
	whole, err := l.wholeSchemas(ctx)
	if err != nil {
		return nil, nil, err
	}
	found, err := rows[struct{ Owner, Schema string }](ctx, l.source, readOwners, oids(c.Tables), whole)
	for _, f := range found {
		owners = append(owners, f.Owner)
		if f.Schema != "" {
			f.Schema = c.Names.Schema(f.Schema)
		}
		schemas = append(schemas, f.Schema)
	}
	return owners, schemas, err
}
