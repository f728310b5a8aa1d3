package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// ErrNoTable means that a table is not there any more.
var ErrNoTable = errors.New("the table does not exist")

// Tables reads all tables that hold a user's data or the root of a partition tree, with everything that Table knows, in
// one round trip whatever their number. Left out are foreign and temporary tables, the system's schemas, dts_sync, and
// what an extension creates by itself unless the extension says that it holds a user's rows. The order is by name.
func Tables(ctx context.Context, conn *pgx.Conn) ([]Table, error) {
	return read(ctx, conn)
}

// ReadTable reads one table by its oid; ErrNoTable when it is gone.
func ReadTable(ctx context.Context, conn *pgx.Conn, oid uint32) (Table, error) {
	tables, err := read(ctx, conn, oid)
	if err != nil {
		return Table{}, err
	}
	if len(tables) == 0 {
		return Table{}, ErrNoTable
	}
	return tables[0], nil
}

// CurrentFingerprints is CurrentFingerprint for several tables, by oid. One that is gone has none.
func CurrentFingerprints(ctx context.Context, conn *pgx.Conn, oids []uint32) (map[uint32]string, error) {
	fingerprints := make(map[uint32]string, len(oids))
	if len(oids) == 0 {
		return fingerprints, nil
	}
	tables, err := read(ctx, conn, oids...)
	for _, table := range tables {
		fingerprints[table.OID] = table.Fingerprint()
	}
	return fingerprints, err
}

// CurrentFingerprint is the fingerprint of a table as the current transaction sees it, "" when it is gone.
func CurrentFingerprint(ctx context.Context, conn *pgx.Conn, oid uint32) (string, error) {
	table, err := ReadTable(ctx, conn, oid)
	if errors.Is(err, ErrNoTable) {
		return "", nil
	}
	return table.Fingerprint(), err
}

// chosen begins every query: the tables meant, which narrowed to those of $1 are found by an index.
const chosen = `
with chosen as (
    select c.oid, c.relname, n.nspname, c.relkind, c.relreplident, c.relpersistence, c.relispartition, c.relrowsecurity,
           c.reltuples, e.extname, e.extcondition[array_position(e.extconfig, c.oid)] as condition
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
        and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
    left join pg_extension e on e.oid = d.refobjid
    where c.relkind in ('r', 'p') and c.relpersistence <> 't'
      and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync')
      and n.nspname !~ '^pg_(toast|temp_|toast_temp_)'
      and (e.oid is null or c.oid = any (e.extconfig))
      %[1]s
)`

const readTables = chosen + `
select oid, nspname, relname, relkind::text, relreplident::text, relpersistence = 'u', relispartition, relrowsecurity,
       greatest(reltuples, 0)::bigint, coalesce(pg_table_size(oid), 0), coalesce(extname, ''), coalesce(condition, '')
from chosen order by nspname, relname`

// readColumns takes attgenerated, which PostgreSQL has since 12. A domain's base is found through domains over domains.
const readColumns = chosen + `
select c.oid, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.atttypid,
       case when t.typtype = 'd' then (
           with recursive base as (
               select t.typbasetype as oid
               union all
               select n.typbasetype from base b join pg_type n on n.oid = b.oid and n.typtype = 'd')
           select b.oid from base b join pg_type n on n.oid = b.oid and n.typtype <> 'd')
       else a.atttypid end,
       t.typtype::text, a.attnotnull, a.atthasdef or a.attidentity <> '' or t.typdefault is not null, a.attidentity::text, %[2]s, a.attstorage::text,
       case when a.attcollation <> t.typcollation
            then (select quote_ident(n.nspname) || '.' || quote_ident(l.collname)
                  from pg_collation l join pg_namespace n on n.oid = l.collnamespace where l.oid = a.attcollation)
            else '' end,
       a.attcollation <> 0
from chosen c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
order by c.oid, a.attnum`

// readIndexes finds the unique indexes. A key must be immediate: under a deferrable one two rows may share a key inside
// a transaction. trusted compares the collations' versions with those the indexes were built under; the database's own
// version is kept since PostgreSQL 15. Without a recorded version nothing is known to have changed.
const readIndexes = chosen + `
select c.oid, x.relname, i.indisprimary, i.indisreplident,
       exists (select from pg_constraint s where s.conrelid = c.oid and s.conindid = i.indexrelid and s.contype in ('p', 'u', 'x')),
       i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and m.amname = 'btree' and k.plain,
       k.columns, k.trusted, k.stock, k.less, k.equal, k.greater_equal, k.greater
from chosen c
join pg_index i on i.indrelid = c.oid and (i.indisunique or i.indisexclusion)
join pg_class x on x.oid = i.indexrelid
join pg_am m on m.oid = x.relam
cross join lateral (
    select array_agg(coalesce(a.attname::text, '') order by p.n) as columns,
           coalesce(bool_and(coalesce(a.attnotnull, false)), false) as plain,
           coalesce(bool_and(l.oid is null or l.collversion is null
               or l.collversion = pg_collation_actual_version(l.oid)), true) and %[3]s as trusted,
           coalesce(bool_and(o.stock), false) as stock,
           array_agg(coalesce(o.less, '') order by p.n) as less,
           array_agg(coalesce(o.equal, '') order by p.n) as equal,
           array_agg(coalesce(o.greater_equal, '') order by p.n) as greater_equal,
           array_agg(coalesce(o.greater, '') order by p.n) as greater
    from generate_series(0, i.%[2]s - 1) p (n)
    left join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[p.n] and a.attnum > 0
    left join pg_collation l on l.oid = i.indcollation[p.n]
    left join lateral (
        select bool_and(g.nspname = 'pg_catalog' and r.oprname in ('<', '<=', '=', '>=', '>')) as stock,
               max(r.name) filter (where w.amopstrategy = 1) as less,
               max(r.name) filter (where w.amopstrategy = 3) as equal,
               max(r.name) filter (where w.amopstrategy = 4) as greater_equal,
               max(r.name) filter (where w.amopstrategy = 5) as greater
        from pg_opclass q
        join pg_amop w on w.amopfamily = q.opcfamily and w.amoplefttype = q.opcintype and w.amoprighttype = q.opcintype
        join pg_operator r0 on r0.oid = w.amopopr
        join pg_namespace g on g.oid = r0.oprnamespace
        cross join lateral (select r0.oprname, 'operator(' || quote_ident(g.nspname) || '.' || r0.oprname || ')' as name) r
        where q.oid = i.indclass[p.n]
    ) o on true
) k
order by c.oid, x.relname`

const readParents = chosen + `
select distinct on (c.oid) c.oid, n.nspname, p.relname
from chosen c
join pg_inherits h on h.inhrelid = c.oid
join pg_class p on p.oid = h.inhparent
join pg_namespace n on n.oid = p.relnamespace
order by c.oid, h.inhseqno`

// readRoots walks up from each partition. An old-style inheritance child has no root.
const readRoots = `
with recursive up (leaf, parent, depth) as (
    select h.inhrelid, h.inhparent, 1
    from pg_inherits h join pg_class c on c.oid = h.inhrelid
    where c.relispartition %[1]s
    union all
    select u.leaf, h.inhparent, u.depth + 1
    from up u
    join pg_class c on c.oid = u.parent and c.relispartition
    join pg_inherits h on h.inhrelid = u.parent
)
select distinct on (u.leaf) u.leaf, n.nspname, c.relname
from up u join pg_class c on c.oid = u.parent join pg_namespace n on n.oid = c.relnamespace
order by u.leaf, u.depth desc`

// read reads the tables with the given oids, or all of them.
func read(ctx context.Context, conn *pgx.Conn, oids ...uint32) ([]Table, error) {
	version, err := pg.Version(ctx, conn)
	if err != nil {
		return nil, err
	}
	narrowed, args := "", []any(nil)
	if len(oids) > 0 {
		narrowed, args = "and c.oid = any ($1)", []any{oids}
	}
	r := reader{byOID: map[uint32]*Table{}}
	batch := &pgx.Batch{}
	batch.Queue(fmt.Sprintf(readTables, narrowed), args...).Query(r.tables)
	batch.Queue(fmt.Sprintf(readColumns, narrowed, generatedColumn(version)), args...).Query(r.columns)
	batch.Queue(fmt.Sprintf(readIndexes, narrowed, keyWidth(version), trust(version)), args...).Query(r.indexes)
	batch.Queue(fmt.Sprintf(readParents, narrowed), args...).Query(r.parents)
	batch.Queue(fmt.Sprintf(readRoots, narrowed), args...).Query(r.roots)
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	return r.list, nil
}

func generatedColumn(version int) string {
	if version < 120000 {
		return "false"
	}
	return "a.attgenerated <> ''"
}

// keyWidth leaves out INCLUDE columns, which came with 11.
func keyWidth(version int) string {
	if version < 110000 {
		return "indnatts"
	}
	return "indnkeyatts"
}

// trust also distrusts every index of 14.0 to 14.3, where one that was built concurrently may lack rows.
func trust(version int) string {
	switch {
	case version >= 140000 && version < 140004:
		return "false"
	case version < 150000:
		return "true"
	}
	return `coalesce(bool_and(l.collprovider is distinct from 'd'
		or (select b.datcollversion is null or b.datcollversion = pg_database_collation_actual_version(b.oid)
		    from pg_database b where b.datname = current_database())), true)`
}

// reader joins the answers of the queries by table. A table that came into being between two of them is left out.
type reader struct {
	list  []Table
	byOID map[uint32]*Table
}

func (r *reader) tables(rows pgx.Rows) error {
	var t Table
	_, err := pgx.ForEachRow(rows, []any{
		&t.OID, &t.Name.Schema, &t.Name.Name, &t.Kind, &t.Identity, &t.Unlogged, &t.Partition, &t.RowSecurity,
		&t.Rows, &t.Bytes, &t.Extension, &t.Condition,
	}, func() error {
		r.list = append(r.list, t)
		return nil
	})
	for i := range r.list {
		r.list[i].Found = r.list[i].Identity == "f"
		r.byOID[r.list[i].OID] = &r.list[i]
	}
	return err
}

func (r *reader) columns(rows pgx.Rows) error {
	var oid uint32
	var c Column
	_, err := pgx.ForEachRow(rows, []any{
		&oid, &c.Name, &c.Num, &c.Type, &c.TypeOID, &c.BaseOID, &c.TypeKind, &c.NotNull, &c.HasDefault, &c.Identity, &c.Generated,
		&c.Storage, &c.Collation, &c.Collated,
	}, func() error {
		if table, ok := r.byOID[oid]; ok {
			table.Columns = append(table.Columns, c)
		}
		return nil
	})
	return err
}

type index struct {
	name                               string
	primary, identity, constraint      bool
	usable, trusted, stock             bool
	columns                            []string
	less, equal, greaterEqual, greater []string
}

func (r *reader) indexes(rows pgx.Rows) error {
	found := map[uint32][]index{}
	for rows.Next() {
		var oid uint32
		var i index
		err := rows.Scan(&oid, &i.name, &i.primary, &i.identity, &i.constraint, &i.usable, &i.columns, &i.trusted, &i.stock,
			&i.less, &i.equal, &i.greaterEqual, &i.greater)
		if err != nil {
			return err
		}
		found[oid] = append(found[oid], i)
	}
	for oid, indexes := range found {
		if table, ok := r.byOID[oid]; ok {
			table.setKey(indexes)
		}
	}
	return rows.Err()
}

// setKey takes the index that the replica identity names, else the primary key.
func (t *Table) setKey(indexes []index) {
	var key *index
	for i := range indexes {
		candidate := &indexes[i]
		switch {
		case !candidate.usable:
		case t.Identity == "i" && candidate.identity:
			key, t.Found = candidate, true
		case candidate.primary && key == nil:
			key, t.Found = candidate, t.Found || t.Identity == "d"
		}
	}
	for _, i := range indexes {
		if key == nil || i.name != key.name {
			t.SecondaryUnique = append(t.SecondaryUnique, i.name)
		}
	}
	if key == nil {
		return
	}
	t.Key, t.KeyIndex, t.KeyConstraint, t.KeyTrusted = key.columns, key.name, key.constraint, key.trusted
	if key.stock {
		return
	}
	for n := range key.columns {
		t.KeyOrder = append(t.KeyOrder, Order{
			Less: key.less[n], Equal: key.equal[n], GreaterEqual: key.greaterEqual[n], Greater: key.greater[n],
		})
	}
}

func (r *reader) parents(rows pgx.Rows) error {
	return r.names(rows, func(t *Table, name migration.TableName) { t.Parent = name })
}

func (r *reader) roots(rows pgx.Rows) error {
	return r.names(rows, func(t *Table, name migration.TableName) { t.Root = name })
}

func (r *reader) names(rows pgx.Rows, set func(*Table, migration.TableName)) error {
	var oid uint32
	var name migration.TableName
	_, err := pgx.ForEachRow(rows, []any{&oid, &name.Schema, &name.Name}, func() error {
		if table, ok := r.byOID[oid]; ok {
			set(table, name)
		}
		return nil
	})
	return err
}
