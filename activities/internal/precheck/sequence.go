package precheck

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"

	"github.com/pgdts/pgdts/workflows/migration"
)

type fedColumn struct {
	Schema, Sequence     string
	TableSchema, Table   string
	Column               string
	Increment, NextFirst int64
}

// readFedColumns lists number columns that a sequence feeds, as their owner or by their default, and whose greatest value
// an index gives at once. Others would need a scan.
const readFedColumns = `
select distinct sn.nspname::text, s.relname::text, n.nspname::text, t.relname::text, a.attname::text, q.seqincrement, q.seqstart
from (
    select d.objid as seq, d.refobjid as tab, d.refobjsubid as col
    from pg_depend d
    where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i')
    union
    select d.refobjid, f.adrelid, f.adnum
    from pg_depend d join pg_attrdef f on f.oid = d.objid
    where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass
) feeds
join pg_sequence q on q.seqrelid = feeds.seq and not q.seqcycle
join pg_class s on s.oid = feeds.seq and s.relpersistence <> 't'
join pg_namespace sn on sn.oid = s.relnamespace
join pg_class t on t.oid = feeds.tab and t.relkind in ('r', 'p')
join pg_namespace n on n.oid = t.relnamespace
join pg_attribute a on a.attrelid = t.oid and a.attnum = feeds.col and not a.attisdropped
    and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
where has_table_privilege(t.oid, 'select') and has_schema_privilege(n.oid, 'usage') and not row_security_active(t.oid)
  and has_table_privilege(s.oid, 'select') and has_schema_privilege(sn.oid, 'usage')
  and exists (
    select from pg_index i join pg_class x on x.oid = i.indexrelid join pg_am m on m.oid = x.relam
    where i.indrelid = t.oid and i.indkey[0] = a.attnum and i.indisvalid and i.indpred is null and m.amname = 'btree')
  and t.oid = any ($1)
order by 1, 2`

// behindPerQuery bounds the length of a statement and the locks that it takes at once.
const behindPerQuery = 200

// sequencesBehind: a sequence that gives next what a row has already makes an insert fail, on the source and after the
// cutover on the target. It is not repaired, because nobody knows whether it is meant.
func sequencesBehind(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	fed, err := rows[fedColumn](ctx, l.source, readFedColumns, oids(tables))
	if err != nil {
		return finding{}, err
	}
	var names, fixes []string
	for first := 0; first < len(fed); first += behindPerQuery {
		part := fed[first:min(first+behindPerQuery, len(fed))]
		behind, err := l.behind(ctx, part)
		if err != nil {
			return finding{}, err
		}
		for _, f := range behind {
			sequence := migration.TableName{Schema: f.Schema, Name: f.Sequence}
			table := migration.TableName{Schema: f.TableSchema, Name: f.Table}
			names = append(names, fmt.Sprintf("%s (column %s of %s)", sequence, f.Column, table))
			fixes = append(fixes, fmt.Sprintf("select setval(%s, (select %s(%s) from %s));",
				migration.Literal(sequence.SQL()), f.extreme(), migration.Quote(f.Column), table.SQL()))
		}
	}
	if len(names) > 0 {
		return alert(statements(fixes), "sequences give values next that their columns hold already: %s", list(names)), nil
	}
	return passed("none of %s", count(len(fed), "fed column")), nil
}

func (f fedColumn) extreme() string {
	if f.Increment < 0 {
		return "min"
	}
	return "max"
}

// behind asks for the next value of each sequence and the furthest value of its column.
func (l *look) behind(ctx context.Context, fed []fedColumn) ([]fedColumn, error) {
	selects := make([]string, len(fed))
	for i, f := range fed {
		sequence := migration.TableName{Schema: f.Schema, Name: f.Sequence}
		table := migration.TableName{Schema: f.TableSchema, Name: f.Table}
		compare := ">="
		if f.Increment < 0 {
			compare = "<="
		}
		selects[i] = fmt.Sprintf(
			"select %d, coalesce((select %s(%s) from %s) %s case when is_called then last_value::numeric + (%d) else last_value end, false) from %s",
			i, f.extreme(), migration.Quote(f.Column), table.SQL(), compare, f.Increment, sequence.SQL())
	}
	// The simple protocol keeps a statement that is never asked again out of the driver's cache.
	result, err := l.source.conn.Query(ctx, strings.Join(selects, " union all "), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	var behind []fedColumn
	var i int
	var is bool
	_, err = pgx.ForEachRow(result, []any{&i, &is}, func() error {
		if is {
			behind = append(behind, fed[i])
		}
		return nil
	})
	return behind, err
}

// sequence is one that the definition means.
type sequence struct {
	catalog.Sequence
	target migration.TableName
}

// sequences are those of the source that the definition means, with their names on the target.
func (l *look) sequences(context.Context) ([]sequence, error) { return l.facts.sequences() }

func (l *look) readSequences(ctx context.Context) ([]sequence, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return nil, err
	}
	all, err := catalog.SequencesThere(ctx, l.source.conn)
	var meant []sequence
	for _, s := range all {
		if named, ok := c.Sequence(s); ok {
			meant = append(meant, sequence{s, named})
		}
	}
	return meant, err
}

const readMissingSequences = `
select w.schema, w.name from unnest($1::text[], $2::text[]) w (schema, name)
where not exists (
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'S' and n.nspname = w.schema and c.relname = w.name)
order by 1, 2`

// sequencesThere: without the schema nobody makes them, and what they have counted to would be lost.
func sequencesThere(ctx context.Context, l *look) (finding, error) {
	meant, err := l.sequences(ctx)
	if err != nil {
		return finding{}, err
	}
	schemas, relations := make([]string, len(meant)), make([]string, len(meant))
	for i, s := range meant {
		schemas[i], relations[i] = s.target.Schema, s.target.Name
	}
	missing, err := rows[migration.TableName](ctx, l.target, readMissingSequences, schemas, relations)
	if err != nil || len(missing) == 0 {
		return passed("%s to set, and all are there", count(len(meant), "sequence")), err
	}
	fixes := make([]string, len(missing))
	for i, name := range missing {
		fixes[i] = fmt.Sprintf("create sequence %s;", name.SQL())
	}
	return alert(statements(fixes), "the target lacks sequences, whose values are not carried over: %s", list(names(missing))), nil
}
