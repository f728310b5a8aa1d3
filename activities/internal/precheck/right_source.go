package precheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pglogrepl"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// mayReplicate is what the catalog says: services that keep the attribute for themselves have a role for it.
const mayReplicate = `
select r.rolreplication or r.rolsuper or exists (
    select from pg_roles g where g.rolname in ('rds_replication', 'rds_superuser') and pg_has_role(g.oid, 'member'))
from pg_roles r where r.rolname = current_user`

// replicationRight opens a replication session, which is the only proof. Without a free WAL sender it takes the
// catalog's word.
func replicationRight(ctx context.Context, l *look) (finding, error) {
	err := l.identify(ctx)
	if err == nil {
		return passed("a replication session opens"), nil
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

func sourceSelect(ctx context.Context, l *look) (finding, error) {
	rights, err := l.facts.rights()
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

const mayCreate = `select has_database_privilege(current_database(), 'create')`

func publicationRight(ctx context.Context, l *look) (finding, error) {
	rights, err := l.facts.rights()
	if err != nil {
		return finding{}, err
	}
	create, err := value[bool](ctx, l.source, mayCreate)
	if err != nil {
		return finding{}, err
	}
	tables, fixes := l.notOwned(rights)
	switch {
	case !create:
		grant := fmt.Sprintf("grant create on database %s to %s;", migration.Quote(l.source.server.Database()), migration.Quote(l.source.role))
		found := fmt.Sprintf("role %s may not create a publication in database %s", l.source.role, l.source.server.Database())
		if len(tables) > 0 {
			found += " and does not own " + list(tables)
		}
		return failed(statements(append([]string{grant}, fixes...)), "%s", found), nil
	case len(tables) > 0:
		return failed(statements(fixes), "role %s does not own %s: only an owner may publish a table", l.source.role, list(tables)), nil
	}
	return passed("role %s owns all %s", l.source.role, count(len(rights), "table")), nil
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

const mayCloseDatabase = `
select pg_has_role(datdba, 'usage') from pg_database where datname = current_database()`

// fenceRight: the fence locks every table against writes; before the opening, triggers that outlive us take over, and
// only an owner makes one fire always.
func fenceRight(ctx context.Context, l *look) (finding, error) {
	switch l.Spec.Cutover.Fence {
	case "none":
		return passed("the definition wants no fence"), nil
	case "read-only":
		owner, err := value[bool](ctx, l.source, mayCloseDatabase)
		if err != nil || owner {
			return passed("role %s owns database %s", l.source.role, l.source.server.Database()), err
		}
		return failed(fmt.Sprintf("alter database %s owner to %s;", migration.Quote(l.source.server.Database()), migration.Quote(l.source.role)),
			"role %s does not own database %s and cannot make it read-only at the cutover", l.source.role, l.source.server.Database()), nil
	}
	rights, err := l.facts.rights()
	if err != nil {
		return finding{}, err
	}
	wanting := slices.DeleteFunc(slices.Clone(rights), func(r right) bool {
		return r.Owned || l.Spec.Cutover.After == "none" && r.Lock
	})
	if len(wanting) == 0 {
		return passed("role %s may lock all %s", l.source.role, count(len(rights), "table")), nil
	}
	tables, fixes := l.notOwned(wanting)
	return failed(statements(fixes), "role %s may not close %s against writes at the cutover", l.source.role, list(tables)), nil
}
