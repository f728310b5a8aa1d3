package apply

import (
	"context"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// truncate empties the listed tables in one statement, without CASCADE: the source lists what it has cascaded to.
// A table whose copy came after the truncation is left alone.
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
		if t.advice != "" {
			return t.drift(errLeafTruncated, "on the target: "+t.advice+", and move its rows there; then resume")
		}
		regime, err := a.decide(tx, t)
		if err != nil {
			return err
		}
		if regime == skip {
			continue
		}
		if err := a.walk.flushTable(ctx, t); err != nil {
			return err
		}
		emptied = append(emptied, t)
	}
	if len(emptied) == 0 {
		return nil
	}
	return a.empty(ctx, emptied)
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

func (a *Applier) empty(ctx context.Context, tables []*table) error {
	if err := a.pipe.flush(ctx); err != nil {
		return err
	}
	var names, schemas, tableNames []string
	for _, t := range tables {
		names = append(names, "only "+t.target.SQL())
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
