package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// truncate empties the listed tables in one statement, without CASCADE: the source lists what it has cascaded to.
// A table whose copy came after the truncation is left alone; one that holds rows of others as well is not emptied.
func (a *Applier) truncate(ctx context.Context, tx *wal.Transaction, relations []*wal.Relation) error {
	var emptied []*table
	for _, relation := range relations {
		t, err := a.table(ctx, relation)
		if err != nil {
			return err
		}
		if t.planned.Mode == migration.ModeRoot || t.planned.Kind == "p" { // its leaves are listed
			continue
		}
		regime, err := a.decide(tx, t)
		if err != nil {
			return err
		}
		if regime == skip || !t.wants(wal.Truncate) {
			continue
		}
		if t.advice != "" {
			return t.drift(errLeafTruncated, "on the target: "+t.advice+", and move its rows there; then resume")
		}
		if err := a.walk.flushTable(ctx, t); err != nil {
			return err
		}
		if t.planned.Existing || t.planned.Merged { // it may be partitioned there, unlike on the source
			if err := a.bind(ctx, t, relation); err != nil {
				return err
			}
		}
		shared, err := a.shares(ctx, t, relations)
		if err != nil {
			return err
		}
		if t.planned.Keep || t.planned.Merged || shared {
			if err := a.withdraw(ctx, tx, t, shared); err != nil {
				return err
			}
			continue
		}
		emptied = append(emptied, t)
	}
	if len(emptied) == 0 {
		return nil
	}
	return a.empty(ctx, emptied)
}

// withdraw takes a table's rows out of a table of the target that holds others: those of a source of a merge can be told
// apart by the constants in their key. Where they cannot, a person must decide.
func (a *Applier) withdraw(ctx context.Context, tx *wal.Transaction, t *table, shared bool) error {
	if err := a.pipe.flush(ctx); err != nil {
		return err
	}
	var constant []int
	var terms []string
	for _, i := range t.found {
		if c := &t.columns[i]; c.set != "" && len(c.reads) == 0 {
			constant = append(constant, i)
			terms = append(terms, fmt.Sprintf("t.%s %s %s", migration.Quote(c.name), c.equal, t.value(after, i)))
		}
	}
	if len(constant) > 0 && !t.planned.Keep && !shared {
		a.pipe.plain(ctx, fmt.Sprintf("delete from %s as t using (select) as x%s where %s", t.only(), t.evaluate(after, constant, false),
			strings.Join(terms, " and ")))
		a.pipe.ledger(ctx, a.config.Lane.AddTruncate(t.relid))
		a.counted.Changes++
		return nil
	}
	settled, err := a.config.Lane.TruncateSettled(ctx, a.conn, t.relid, tx.Commit)
	if err != nil || settled {
		return err
	}
	return t.drift(errTruncated, fmt.Sprintf("on the target: delete from %s what came from the source, then tell that it is done: "+
		"update dts_sync.tbl set truncated = '%s' where migration = %s and relid = %d; then resume",
		t.target.SQL(), tx.Commit, migration.Literal(string(t.id)), t.relid))
}

// referencing are foreign keys from tables that are not listed. The source had none, or none that are migrated; where
// the target has one, TRUNCATE is refused whatever the referencing table holds.
const referencing = `
select exists (
    select from pg_constraint k
    join pg_class c on c.oid = k.confrelid join pg_namespace n on n.oid = c.relnamespace
    join pg_class r on r.oid = k.conrelid join pg_namespace m on m.oid = r.relnamespace
    where k.contype = 'f'
      and (n.nspname, c.relname) in (select * from unnest($1::text[], $2::text[]))
      and (m.nspname, r.relname) not in (select * from unnest($1::text[], $2::text[])))`

// readBelow lists the partitions below a table.
const readBelow = `
with recursive below as (
    select i.inhrelid as oid from pg_inherits i where i.inhparent = to_regclass($1)
    union all
    select i.inhrelid from below b join pg_inherits i on i.inhparent = b.oid
)
select n.nspname::text, c.relname::text from below b join pg_class c on c.oid = b.oid join pg_namespace n on n.oid = c.relnamespace`

// shares reports whether the target's table holds rows of a table that was not truncated with it, and that nothing in the
// key tells apart: another partition, where the trees are not the same, or a source of a merge.
func (a *Applier) shares(ctx context.Context, t *table, listed []*wal.Relation) (bool, error) {
	there := map[migration.TableName]bool{t.target: true}
	if t.whole {
		if err := a.pipe.flush(ctx); err != nil {
			return false, err
		}
		rows, err := a.conn.Query(ctx, readBelow, t.target.SQL())
		if err != nil {
			return false, err
		}
		var name migration.TableName
		if _, err := pgx.ForEachRow(rows, []any{&name.Schema, &name.Name}, func() error { there[name] = true; return nil }); err != nil {
			return false, err
		}
	}
	for relid, other := range a.tables {
		truncated := slices.ContainsFunc(listed, func(r *wal.Relation) bool { return r.ID == relid })
		if other != t && there[other.target] && !truncated && !other.root() && !t.apart(other) {
			return true, nil
		}
	}
	return false, nil
}

var errTruncated = errors.New("the source has truncated it, and its table on the target holds rows of others, which nothing tells apart")

func (a *Applier) empty(ctx context.Context, tables []*table) error {
	if err := a.pipe.flush(ctx); err != nil {
		return err
	}
	var names, schemas, tableNames []string
	for _, t := range tables {
		names = append(names, t.only())
		schemas, tableNames = append(schemas, t.target.Schema), append(tableNames, t.target.Name)
	}
	var referenced bool
	if err := a.conn.QueryRow(ctx, referencing, schemas, tableNames).Scan(&referenced); err != nil {
		return err
	}
	if referenced {
		for _, name := range names {
			a.pipe.plain(ctx, "delete from "+name)
		}
	} else {
		a.pipe.plain(ctx, "truncate "+strings.Join(names, ", "))
	}
	for _, t := range tables {
		a.pipe.ledger(ctx, a.config.Lane.AddTruncate(t.relid))
	}
	a.counted.Changes++
	return nil
}
