package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// mayReplicate is what the catalog says: services that keep the attribute for themselves have a role for it.
const mayReplicate = `
select r.rolreplication or r.rolsuper or exists (
    select from pg_roles g where g.rolname in ('rds_replication', 'rds_superuser') and pg_has_role(g.oid, 'member'))
from pg_roles r where r.rolname = current_user`

// readFavours lists the roles by which services give what elsewhere takes a superuser.
const readFavours = `
select rolname::text from pg_roles
where rolname in ('rds_superuser', 'rds_replication', 'cloudsqlsuperuser', 'azure_pg_admin', 'alloydbsuperuser') and pg_has_role(oid, 'member')
order by 1`

// replicationRight opens a replication session, which is the only proof. Without a free WAL sender it takes the
// catalog's word.
func replicationRight(ctx context.Context, l *look) (finding, error) {
	err := l.identify(ctx)
	if err == nil {
		favours, err := rows[struct{ Name string }](ctx, l.source, readFavours)
		if err != nil || len(favours) == 0 {
			return passed("a replication session opens"), err
		}
		names := make([]string, len(favours))
		for i, f := range favours {
			names[i] = f.Name
		}
		return passed("a replication session opens; role %s is a member of %s", l.source.role, strings.Join(names, ", ")), nil
	}
	role := migration.Quote(l.source.role)
	fix := fmt.Sprintf("alter role %s replication;", role)
	rds, rdsErr := l.source.isRDS(ctx)
	if rdsErr != nil {
		return finding{}, rdsErr
	}
	if rds {
		fix = fmt.Sprintf("grant rds_replication to %s;", role)
	}
	refusal := pg.RefusalOf(err)
	if refusal == pg.RefusedRight {
		return failed(fix, "role %s may not open a replication session", l.source.role), nil
	}
	if refusal == pg.RefusedFull {
		may, err := value[bool](ctx, l.source, mayReplicate)
		if err != nil || may {
			return passed("the catalog says so; no WAL sender was free to try"), err
		}
		return failed(fix, "role %s has not the right to replicate", l.source.role), nil
	}
	if fault, ok := migration.AsFault(err); ok {
		return failed(fault.Hint, "no replication session opens: %s", fault.Message), nil
	}
	return finding{}, err
}

func (l *look) identify(ctx context.Context) error {
	conn, err := l.Source.Replication(ctx, l.Spec.ID.Session("precheck", 0), nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = pglogrepl.IdentifySystem(ctx, conn)
	return err
}

const readUnreadableSequences = `
select n.nspname::text, c.relname::text
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'S' and c.relpersistence <> 't' and not has_table_privilege(c.oid, 'select') and` + ofUsers + `
order by 1, 2`

// unreadableSequences are those among the ones that are meant.
func (l *look) unreadableSequences(ctx context.Context) ([]migration.TableName, error) {
	meant, err := l.sequences(ctx)
	if err != nil {
		return nil, err
	}
	found, err := rows[migration.TableName](ctx, l.source, readUnreadableSequences)
	return slices.DeleteFunc(found, func(name migration.TableName) bool {
		return !slices.ContainsFunc(meant, func(s sequence) bool { return s.Name == name })
	}), err
}

// readUndumpable lists tables that pg_dump would lock to read their definition, and may not: it reads the whole database,
// of which the definition's objects are chosen afterwards.
const readUndumpable = `
select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and not c.oid = any ($1)
  and not (has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')) and` + ofUsers + ` and` + notOfExtension + `
order by 1, 2`

func (l *look) undumpable(ctx context.Context) ([]migration.TableName, error) {
	tables, err := l.tables()
	if err != nil || !withSchema(l.Spec) {
		return nil, err
	}
	return rows[migration.TableName](ctx, l.source, readUndumpable, oids(tables))
}

func sourceSelect(ctx context.Context, l *look) (finding, error) {
	rights, err := l.facts.rights()
	if err != nil {
		return finding{}, err
	}
	besides, err := l.undumpable(ctx)
	if err != nil {
		return finding{}, err
	}
	sequences, err := l.unreadableSequences(ctx)
	if err != nil {
		return finding{}, err
	}
	var unreadable, hidden, schemas []string
	for _, r := range rights {
		switch {
		case !r.Usage || !r.Select:
			unreadable, schemas = append(unreadable, r.table().String()), append(schemas, r.Schema)
		case r.Hidden && withRows(l.Spec):
			hidden = append(hidden, r.table().String())
		}
	}
	for _, table := range besides {
		unreadable, schemas = append(unreadable, table.String()+" (which pg_dump reads)"), append(schemas, table.Schema)
	}
	for _, sequence := range sequences {
		unreadable, schemas = append(unreadable, "sequence "+sequence.String()), append(schemas, sequence.Schema)
	}
	switch {
	case len(unreadable) > 0:
		return failed(grantRead(schemas, l.source.role), "role %s may not read %s", l.source.role, list(unreadable)), nil
	case len(hidden) > 0:
		return failed(fmt.Sprintf("alter role %s bypassrls;", migration.Quote(l.source.role)),
			"row-level security hides rows from role %s in %s", l.source.role, list(hidden)), nil
	}
	return passed("role %s reads all %s", l.source.role, count(len(rights), "table")), nil
}

func grantRead(schemas []string, role string) string {
	slices.Sort(schemas)
	var lines []string
	for _, schema := range slices.Compact(schemas) {
		name := migration.Quote(schema)
		lines = append(lines,
			fmt.Sprintf("grant usage on schema %s to %s;", name, migration.Quote(role)),
			fmt.Sprintf("grant select on all tables in schema %s to %s;", name, migration.Quote(role)),
			fmt.Sprintf("grant select on all sequences in schema %s to %s;", name, migration.Quote(role)))
	}
	return statements(lines)
}

// notOwned lists the tables of others, and what makes the role their owner: membership, or the tables themselves where
// membership would make it a superuser.
func (l *look) notOwned(rights []right) (tables, fixes []string) {
	role := migration.Quote(l.source.role)
	for _, r := range rights {
		if r.Owned {
			continue
		}
		tables = append(tables, r.table().String())
		fix := fmt.Sprintf("grant %s to %s;", migration.Quote(r.Owner), role)
		if r.OwnerSuper {
			fix = fmt.Sprintf("alter table %s owner to %s;", r.table().SQL(), role)
		}
		if !slices.Contains(fixes, fix) {
			fixes = append(fixes, fix)
		}
	}
	return tables, fixes
}
