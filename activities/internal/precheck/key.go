package precheck

import (
	"context"
	"fmt"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

type candidate struct {
	OID   uint32
	Index string
}

// readCandidates finds the indexes that a replica identity could use, the smallest first.
const readCandidates = `
select distinct on (i.indrelid) i.indrelid, x.relname::text
from pg_index i
join pg_class x on x.oid = i.indexrelid
join pg_am m on m.oid = x.relam
where i.indrelid = any ($1) and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null
  and m.amname = 'btree'
  and not exists (select from pg_attribute a where a.attrelid = i.indrelid and a.attnum = any (i.indkey) and not a.attnotnull)
order by i.indrelid, i.indnatts, x.relname`

func tablesWithoutKey(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	without := map[migration.WithoutKey][]mapping.Table{}
	var all []mapping.Table
	for _, table := range tables {
		if table.Kind == "r" && !table.Unlogged && table.Published(migration.InsertOnly) == catalog.PublishedInsert {
			without[table.WithoutKey], all = append(without[table.WithoutKey], table), append(all, table)
		}
	}
	if len(all) == 0 {
		return passed("every table has one"), nil
	}
	candidates, err := rows[candidate](ctx, l.source, readCandidates, oids(all))
	if err != nil {
		return finding{}, err
	}
	var findings []finding
	for _, policy := range []migration.WithoutKey{migration.Refuse, migration.FullIdentity, migration.InsertOnly} {
		if some := without[policy]; len(some) > 0 {
			findings = append(findings, l.withoutKey(policy, some, identities(some, candidates)))
		}
	}
	return together(findings), nil
}

func (l *look) withoutKey(policy migration.WithoutKey, tables []mapping.Table, fix string) finding {
	found := count(len(tables), "table") + " without a key that tells rows apart: " + list(sized(tables))
	switch policy {
	case migration.Refuse:
		return failed(fix, "%s; withoutKey is refuse", found)
	case migration.FullIdentity:
		if withGivenSlot(l.Spec) {
			return failed(fix+"\n-- or set REPLICA IDENTITY FULL; then make the slot and the snapshot again", "%s; what the slot holds was written without", found)
		}
		return notice(fix, "%s; their REPLICA IDENTITY is set to FULL for the time of the migration", found)
	case migration.InsertOnly:
	}
	if l.Spec.FromNow() && !withSchema(l.Spec) {
		return alert(fix, "%s; inserts are carried over as they come, and after an update or a delete the cutover is refused: the rows "+
			"that the target had cannot be copied again", found)
	}
	return notice(fix, "%s; inserts are carried over as they come, and a table with updates or deletes is copied again under the fence", found)
}

func sized(tables []mapping.Table) []string {
	names := make([]string, len(tables))
	for i, table := range tables {
		names[i] = fmt.Sprintf("%s (%s)", table.Name, size(table.Bytes))
	}
	return names
}

func identities(tables []mapping.Table, candidates []candidate) string {
	index := map[uint32]string{}
	for _, c := range candidates {
		index[c.OID] = c.Index
	}
	var lines []string
	for _, table := range tables {
		if name, ok := index[table.OID]; ok {
			lines = append(lines, fmt.Sprintf("alter table %s replica identity using index %s;", table.Name.SQL(), migration.Quote(name)))
		} else {
			lines = append(lines, fmt.Sprintf("alter table %s replica identity full; -- or add a primary key, which is faster", table.Name.SQL()))
		}
	}
	return statements(lines)
}

type deferrable struct {
	Schema, Name, Constraint string
	Index                    string // another index that can stand in, or ""
	Columns                  string // of the key, quoted
}

const readDeferrable = `
select n.nspname::text, c.relname::text, k.conname::text, coalesce((
    select x.relname::text from pg_index i join pg_class x on x.oid = i.indexrelid
    where i.indrelid = c.oid and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null
      and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attnum = any (i.indkey) and not a.attnotnull)
    order by i.indnatts, x.relname limit 1), ''),
    (select string_agg(quote_ident(a.attname), ', ' order by u.no)
     from unnest(k.conkey) with ordinality u (num, no) join pg_attribute a on a.attrelid = c.oid and a.attnum = u.num)
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
where k.contype = 'p' and k.condeferrable and c.relkind = 'r' and c.relreplident = 'd' and c.oid = any ($1)
order by 1, 2`

// An index that stands in for a deferrable key is named after it.
const (
	immediate    = "_immediate"
	indexNameMax = 63 - len(immediate)
)

// deferrableKeys: inside a transaction two rows may share a deferrable key, so it tells no rows apart.
func deferrableKeys(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	found, err := rows[deferrable](ctx, l.source, readDeferrable, oids(tables))
	if err != nil || len(found) == 0 {
		return passed("none"), err
	}
	var names, fixes []string
	for _, d := range found {
		table := migration.TableName{Schema: d.Schema, Name: d.Name}
		names = append(names, fmt.Sprintf("%s (%s)", table, d.Constraint))
		if d.Index == "" {
			d.Index = d.Constraint[:min(len(d.Constraint), indexNameMax)] + immediate
			fixes = append(fixes, fmt.Sprintf("create unique index concurrently %s on %s (%s);", migration.Quote(d.Index), table.SQL(), d.Columns))
		}
		fixes = append(fixes, fmt.Sprintf("alter table %s replica identity using index %s;", table.SQL(), migration.Quote(d.Index)))
	}
	return notice(statements(fixes), "the primary key of %s is deferrable: such tables are treated as tables without key", list(names)), nil
}
