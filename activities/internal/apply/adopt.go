package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// table finds the table of a relation. One that is not planned can be a partition that was made under a published root
// after the plan: its rows were never copied, so that all its changes are exact.
func (a *Applier) table(ctx context.Context, relation *wal.Relation) (*table, error) {
	if t := a.tables[relation.ID]; t != nil {
		return t, nil
	}
	if err := a.pipe.flush(ctx); err != nil {
		return nil, err
	}
	t, err := a.adopt(ctx, relation)
	if err != nil {
		return nil, err
	}
	a.tables[relation.ID] = t
	a.share()
	return t, nil
}

// ancestors are the names of the tables above one, nearest first.
const ancestors = `
with recursive up as (
    select c.oid, 0 as depth from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2
    union all
    select i.inhparent, depth + 1 from up join pg_inherits i on i.inhrelid = up.oid
)
select n.nspname, c.relname, (select coalesce(pg_get_expr(l.relpartbound, l.oid), '') from pg_class l join up u on u.oid = l.oid where u.depth = 0)
from up join pg_class c on c.oid = up.oid join pg_namespace n on n.oid = c.relnamespace order by depth`

// family is where a table stands among partitions.
type family struct {
	names []migration.TableName // itself first
	bound string
}

func readFamily(ctx context.Context, conn *pgx.Conn, name migration.TableName) (family, error) {
	rows, err := conn.Query(ctx, ancestors, name.Schema, name.Name)
	if err != nil {
		return family{}, err
	}
	var f family
	var member migration.TableName
	_, err = pgx.ForEachRow(rows, []any{&member.Schema, &member.Name, &f.bound}, func() error {
		f.names = append(f.names, member)
		return nil
	})
	return f, err
}

// adopt looks on the target first: a partition under its own name, below a root under its own, needs no source.
func (a *Applier) adopt(ctx context.Context, relation *wal.Relation) (*table, error) {
	there, err := readFamily(ctx, a.conn, relation.Name)
	if err != nil {
		return nil, err
	}
	root := a.plannedRoot(there, func(t *table) migration.TableName { return t.planned.Name })
	if root != nil && root.target == root.planned.Name {
		return root.leaf(relation, root.planned.Table, relation.Name, ""), nil
	}
	var here family
	err = a.onSource(ctx, "find the root of", relation.Name.String(), func(conn *pgx.Conn) (err error) {
		here, err = readFamily(ctx, conn, relation.Name)
		return err
	})
	if err != nil {
		return nil, err
	}
	selection, err := a.selected(ctx)
	if err != nil {
		return nil, err
	}
	if root = a.plannedRoot(here, func(t *table) migration.TableName { return t.planned.Name }); root == nil {
		return nil, migration.NewFault(migration.FaultDrift, "apply to", relation.Name.String(),
			errors.New("the source sends changes of a table that was not there when the migration was planned"),
			"take it out of the publication on the source and copy it by other means, or start the migration anew")
	}
	return a.adoptBelow(ctx, root, relation, here, selection)
}

// adoptBelow follows what the definition says of the partition; its root's row in the ledger says what the target is.
func (a *Applier) adoptBelow(ctx context.Context, root *table, relation *wal.Relation, here family, selection mapping.Selection) (*table, error) {
	planned := root.planned.Table
	name := func(of migration.TableName) migration.TableName {
		i := slices.IndexFunc(selection.Tables, func(t mapping.Table) bool { return t.Name == of })
		if i < 0 {
			return of
		}
		return selection.Tables[i].Target
	}
	if chosen, ok := selection.Table(relation.ID); ok {
		planned.Into, planned.Where, planned.DropIf, planned.Operations = chosen.Into, chosen.Where, chosen.DropIf, chosen.Operations
	}
	target := name(relation.Name)
	there, err := readFamily(ctx, a.conn, target)
	if err != nil {
		return nil, err
	}
	if a.plannedRoot(there, func(t *table) migration.TableName { return t.target }) != nil {
		return root.leaf(relation, planned, target, ""), nil
	}
	advice := fmt.Sprintf("create table %s partition of %s %s", target.SQL(), name(here.names[1]).SQL(), here.bound)
	return root.leaf(relation, planned, root.target, advice), nil
}

// plannedRoot finds the planned table above one by its name there.
func (a *Applier) plannedRoot(f family, called func(*table) migration.TableName) *table {
	if len(f.names) < 2 {
		return nil
	}
	for _, name := range f.names[1:] {
		for _, t := range a.tables {
			if called(t) == name && t.planned.Kind == "p" {
				return t
			}
		}
	}
	return nil
}

// leaf is a table like its root.
func (t *table) leaf(relation *wal.Relation, planned mapping.Table, target migration.TableName, advice string) *table {
	leaf := &table{id: t.id, planned: t.planned, relid: t.relid, target: target, advice: advice, fromNow: t.fromNow, marked: t.marked}
	leaf.planned.Table = planned
	leaf.planned.OID, leaf.planned.Name, leaf.planned.Kind = relation.ID, relation.Name, "r"
	leaf.planned.Mode, leaf.planned.Published = migration.ModeKeyRange, "all"
	if relation.Identity != 'f' {
		leaf.planned.Key, leaf.planned.TargetKey = nil, nil
		for _, column := range relation.Columns {
			if column.Key {
				leaf.planned.Key = append(leaf.planned.Key, column.Name)
			}
		}
		if len(leaf.planned.Key) > 0 {
			leaf.planned.TargetKey = t.keyLike(planned, leaf.planned.Key)
		}
	}
	leaf.converges = leaf.fromNow || !leaf.planned.Plain()
	leaf.closed = true
	return leaf
}

// keyLike are the names on the target of a key, with what the root adds to its own.
func (t *table) keyLike(planned mapping.Table, key []string) []string {
	var names []string
	for _, name := range key {
		i := slices.IndexFunc(planned.Into, func(c mapping.Column) bool { return c.Source == name })
		if i < 0 {
			names = append(names, name)
			continue
		}
		names = append(names, planned.Into[i].Name)
	}
	return append(names, t.planned.TargetKey[min(len(t.planned.Key), len(t.planned.TargetKey)):]...)
}
