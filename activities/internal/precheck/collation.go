package precheck

import (
	"context"
	"fmt"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// stale is a collation whose library orders texts in another way than when indexes were built by it.
type stale struct {
	Schema, Name string // "" = the database's own
	OID          uint32
}

const readStale = `
select n.nspname::text, l.collname::text, l.oid
from pg_collation l join pg_namespace n on n.oid = l.collnamespace
where l.collversion is not null and l.collversion is distinct from pg_collation_actual_version(l.oid)
order by 1, 2`

// readStaleDatabase asks for what is kept since 15.
const readStaleDatabase = `
select coalesce(d.datcollversion is distinct from pg_database_collation_actual_version(d.oid), false) and d.datcollversion is not null
from pg_database d where d.datname = current_database()`

// readStaleIndexes finds the indexes whose order nobody vouches for. 100 is the database's own collation.
const readStaleIndexes = `
select distinct n.nspname::text, x.relname::text, i.indrelid, i.indisunique
from pg_index i
join pg_class x on x.oid = i.indexrelid and x.relkind = 'i'
join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
cross join lateral unnest(i.indcollation::oid[]) k (oid)
where k.oid = any ($1) and` + ofUsers + ` order by 1, 2`

type staleIndex struct {
	Schema, Name string
	Table        uint32
	Unique       bool
}

func (l *look) staleCollations(ctx context.Context) ([]stale, error) {
	found, err := rows[stale](ctx, l.source, readStale)
	if err != nil || l.source.version < 150000 {
		return found, err
	}
	own, err := value[bool](ctx, l.source, readStaleDatabase)
	if own {
		const theDatabases = 100
		found = append(found, stale{OID: theDatabases})
	}
	return found, err
}

func (s stale) title() string {
	if s.Name == "" {
		return "the database's own"
	}
	return s.Schema + "." + s.Name
}

func (s stale) refresh(database string) string {
	if s.Name == "" {
		return fmt.Sprintf("alter database %s refresh collation version;", migration.Quote(database))
	}
	return fmt.Sprintf("alter collation %s.%s refresh version;", migration.Quote(s.Schema), migration.Quote(s.Name))
}

// collationVersions: an index that was built under another order may miss rows. We read around such keys, by copying their
// tables whole. But it may also have let a value in twice, and then the target cannot build its unique index, when all rows
// are there.
func collationVersions(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	collations, err := l.staleCollations(ctx)
	if err != nil || len(collations) == 0 {
		return passed("none has changed since indexes were built by it"), err
	}
	numbers := make([]uint32, len(collations))
	for i, c := range collations {
		numbers[i] = c.OID
	}
	indexes, err := rows[staleIndex](ctx, l.source, readStaleIndexes, numbers)
	if err != nil {
		return finding{}, err
	}
	of := map[uint32]mapping.Table{}
	for _, table := range tables {
		of[table.OID] = table
	}
	var named, unique, fixes []string
	for _, i := range indexes {
		table, selected := of[i.Table]
		if !selected {
			continue
		}
		name := migration.TableName{Schema: i.Schema, Name: i.Name}
		fixes = append(fixes, fmt.Sprintf("reindex index %s;", name.SQL()))
		named = append(named, fmt.Sprintf("%s on %s", name, table.Name))
		if i.Unique {
			unique = append(unique, name.String())
		}
	}
	var titles []string
	for _, c := range collations {
		titles, fixes = append(titles, c.title()), append(fixes, c.refresh(l.source.server.Database()))
	}
	const found = "these collations of the source order texts in another way than when indexes were built: %s"
	fix := "-- on the source; a unique index that cannot be built shows rows that are there twice:\n" + statements(fixes)
	switch {
	case len(named) == 0:
		return notice(fix, found+"; no index of a selected table is ordered by them", list(titles)), nil
	case len(unique) == 0:
		return notice(fix, found+"; indexes that may miss rows, which the migration does not use: %s", list(titles), list(named)), nil
	}
	return alert(fix, found+"; indexes that may miss rows: %s; tables whose key is among them are copied whole, not in parts; unique ones "+
		"may have let a value in twice, which would show when the target builds them: %s", list(titles), list(named), list(unique)), nil
}

// money is written without its currency, so that the number of its smallest unit arrives as it is. What it is shown as is
// for lc_monetary of the session that reads it.
func money(_ context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	const moneyOID, moneyArrayOID = 790, 791
	var columns []string
	for _, table := range tables {
		for _, column := range table.DataColumns() {
			if column.BaseOID == moneyOID || column.BaseOID == moneyArrayOID {
				columns = append(columns, fmt.Sprintf("%s.%s", table.Name, column.Name))
			}
		}
	}
	if len(columns) == 0 {
		return passed("no selected table has a column of type money"), nil
	}
	return notice("-- on both servers, as an application does it; where they differ, alter database … set lc_monetary on the target:\nshow lc_monetary;",
		"money arrives exactly, as a number of its smallest unit, and is shown by lc_monetary of whoever reads it: %s", list(columns)), nil
}
