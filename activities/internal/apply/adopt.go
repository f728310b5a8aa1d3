package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

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

func (a *Applier) adopt(ctx context.Context, relation *wal.Relation) (*table, error) {
	there, err := readFamily(ctx, a.conn, relation.Name)
	if err != nil {
		return nil, err
	}
	if root := a.planned(there); root != nil {
		return root.leaf(relation, relation.Name, ""), nil
	}
	var here family
	err = a.onSource(ctx, "find the root of", relation.Name.String(), func(conn *pgx.Conn) (err error) {
		here, err = readFamily(ctx, conn, relation.Name)
		return err
	})
	if err != nil {
		return nil, err
	}
	root := a.planned(here)
	if root == nil {
		return nil, migration.NewFault(migration.FaultDrift, "apply to", relation.Name.String(),
			errors.New("the source sends changes of a table that was not there when the migration was planned"),
			"take it out of the publication on the source and copy it by other means, or start the migration anew")
	}
	advice := fmt.Sprintf("create table %s partition of %s %s", relation.Name.SQL(), here.names[1].SQL(), here.bound)
	return root.leaf(relation, root.target, advice), nil
}

func (a *Applier) planned(f family) *table {
	if len(f.names) < 2 {
		return nil
	}
	for _, name := range f.names[1:] {
		for _, t := range a.tables {
			if t.planned.Name == name && t.planned.Kind == "p" {
				return t
			}
		}
	}
	return nil
}

// leaf is a table like its root.
func (t *table) leaf(relation *wal.Relation, target migration.TableName, advice string) *table {
	leaf := &table{planned: t.planned, relid: t.relid, target: target, advice: advice}
	leaf.planned.OID, leaf.planned.Name, leaf.planned.Kind = relation.ID, relation.Name, "r"
	leaf.planned.Mode, leaf.planned.Published = migration.ModeKeyRange, "all"
	if relation.Identity != 'f' {
		leaf.planned.Key = nil
		for _, column := range relation.Columns {
			if column.Key {
				leaf.planned.Key = append(leaf.planned.Key, column.Name)
			}
		}
	}
	leaf.closed = true
	return leaf
}
