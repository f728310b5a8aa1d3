package schema

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// facts are what the archive does not tell about the source, by oid, of the archive's snapshot.
type facts struct {
	keys        map[uint32]string // table → name of the index that is its key
	insertOnly  map[uint32]bool   // tables whose updates and deletes are not in the stream
	relations   map[uint32]relation
	indexes     map[uint32]index
	constraints map[uint32]constraint
	rules       map[uint32]uint32 // rule → relation
	policies    map[uint32]uint32 // policy → relation
	statistics  map[uint32]uint32 // extended statistics → table
	defaults    map[uint32]column // default or generation expression → its column
	triggers    map[uint32]trigger
	attached    map[migration.TableName]migration.TableName // partition's index → its root's
	sequences   map[migration.TableName]catalog.Sequence
	needed      []need          // columns that are renamed or left out, and what depends on them
	foreignCode map[uint32]bool // functions that live in a library which no extension brings
}

type relation struct {
	OID       uint32
	Name      migration.TableName
	Kind      string // relkind
	Root      uint32 // topmost partitioned table, or itself
	Populated bool   // false for a materialized view that was never filled
	Forced    bool   // row security holds for the owner too
}

type index struct {
	OID      uint32
	Relation uint32
	Name     string
	Unique   bool
}

type constraint struct {
	OID      uint32
	Relation uint32 // 0 = of a domain
	Refers   uint32 // 0 = not a foreign key
	Name     string
	Valid    bool
	Deferred bool // deferrable
}

type trigger struct {
	OID      uint32
	Relation uint32
	Enabled  string // tgenabled: O origin, D disabled, R replica, A always
}

// column is a table's column by its number.
type column struct {
	Relation uint32
	Num      int16
}

// need says that an object depends on a column. Both are found by oids.
type need struct {
	Class, OID uint32 // catalog and oid, as entries have them
	Column     column
}

func readFacts(ctx context.Context, conn *pgx.Conn, tables []mapping.Table) (facts, error) {
	f := facts{keys: map[uint32]string{}, insertOnly: map[uint32]bool{}}
	for _, table := range tables {
		if len(table.Key) > 0 {
			f.keys[table.OID] = table.KeyIndex
		}
		f.insertOnly[table.OID] = !table.Unlogged && table.Published(table.WithoutKey) == catalog.PublishedInsert
	}
	for _, read := range []func() error{
		func() (err error) { f.relations, err = f.readRelations(ctx, conn); return err },
		func() (err error) {
			f.indexes, err = byOID(ctx, conn, readIndexes, func(i index) uint32 { return i.OID })
			return err
		},
		func() (err error) {
			f.constraints, err = byOID(ctx, conn, readConstraints, func(c constraint) uint32 { return c.OID })
			return err
		},
		func() (err error) {
			f.triggers, err = byOID(ctx, conn, readTriggers, func(t trigger) uint32 { return t.OID })
			return err
		},
		func() error { return f.readOwners(ctx, conn) },
		func() (err error) { f.attached, err = readAttachedIndexes(ctx, conn); return err },
		func() (err error) { f.needed, err = readNeeds(ctx, conn, tables); return err },
	} {
		if err := read(); err != nil {
			return facts{}, fmt.Errorf("read the catalog beside pg_dump: %w", err)
		}
	}
	return f, nil
}

const readIndexes = `
select i.indexrelid, i.indrelid, c.relname::text, i.indisunique
from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid`

const readConstraints = `
select oid, conrelid, confrelid, conname::text, convalidated, condeferrable from pg_catalog.pg_constraint`

const readTriggers = `
select oid, tgrelid, tgenabled::text from pg_catalog.pg_trigger where not tgisinternal`

const readRelations = `
with recursive tree as (
    select c.oid, c.oid as root from pg_catalog.pg_class c
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
    union all
    select h.inhrelid, t.root
    from pg_catalog.pg_inherits h
    join tree t on t.oid = h.inhparent
    join pg_catalog.pg_class c on c.oid = h.inhrelid and c.relispartition
)
select c.oid, n.nspname::text, c.relname::text, c.relkind::text, t.root, c.relispopulated, c.relforcerowsecurity
from tree t
join pg_catalog.pg_class c on c.oid = t.oid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace`

func (f facts) readRelations(ctx context.Context, conn *pgx.Conn) (map[uint32]relation, error) {
	rows, err := conn.Query(ctx, readRelations)
	if err != nil {
		return nil, err
	}
	relations := map[uint32]relation{}
	var r relation
	_, err = pgx.ForEachRow(rows, []any{&r.OID, &r.Name.Schema, &r.Name.Name, &r.Kind, &r.Root, &r.Populated, &r.Forced},
		func() error { relations[r.OID] = r; return nil })
	return relations, err
}

const (
	readRules      = "select oid, ev_class from pg_catalog.pg_rewrite"
	readPolicies   = "select oid, polrelid from pg_catalog.pg_policy"
	readStatistics = "select oid, stxrelid from pg_catalog.pg_statistic_ext"
	readDefaults   = "select oid, adrelid, adnum from pg_catalog.pg_attrdef"
)

const readForeignCode = `
select p.oid from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
where l.lanname = 'c' and p.oid >= 16384`

// readOwners reads which table things belong to that pg_dump lists by name only.
func (f *facts) readOwners(ctx context.Context, conn *pgx.Conn) error {
	var oid uint32
	for _, read := range []struct {
		sql  string
		into *map[uint32]uint32
	}{{readRules, &f.rules}, {readPolicies, &f.policies}, {readStatistics, &f.statistics}} {
		rows, err := conn.Query(ctx, read.sql)
		if err != nil {
			return err
		}
		owners := map[uint32]uint32{}
		var relation uint32
		if _, err := pgx.ForEachRow(rows, []any{&oid, &relation}, func() error { owners[oid] = relation; return nil }); err != nil {
			return err
		}
		*read.into = owners
	}
	rows, err := conn.Query(ctx, readDefaults)
	if err != nil {
		return err
	}
	f.defaults = map[uint32]column{}
	var of column
	if _, err := pgx.ForEachRow(rows, []any{&oid, &of.Relation, &of.Num}, func() error { f.defaults[oid] = of; return nil }); err != nil {
		return err
	}
	if rows, err = conn.Query(ctx, readForeignCode); err != nil {
		return err
	}
	f.foreignCode = map[uint32]bool{}
	_, err = pgx.ForEachRow(rows, []any{&oid}, func() error { f.foreignCode[oid] = true; return nil })
	return err
}

const readAttached = `
select n.nspname::text, c.relname::text, pn.nspname::text, p.relname::text
from pg_catalog.pg_inherits h
join pg_catalog.pg_class c on c.oid = h.inhrelid and c.relkind in ('i', 'I')
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_class p on p.oid = h.inhparent
join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace`

func readAttachedIndexes(ctx context.Context, conn *pgx.Conn) (map[migration.TableName]migration.TableName, error) {
	rows, err := conn.Query(ctx, readAttached)
	if err != nil {
		return nil, err
	}
	attached := map[migration.TableName]migration.TableName{}
	var child, root migration.TableName
	_, err = pgx.ForEachRow(rows, []any{&child.Schema, &child.Name, &root.Schema, &root.Name},
		func() error { attached[child] = root; return nil })
	return attached, err
}

// readSequences reads the sequences with the tables that they belong to.
func (f *facts) readSequences(ctx context.Context, conn *pgx.Conn) error {
	sequences, err := catalog.Sequences(ctx, conn)
	if err != nil {
		return err
	}
	f.sequences = make(map[migration.TableName]catalog.Sequence, len(sequences))
	for _, sequence := range sequences {
		f.sequences[sequence.Name] = sequence
	}
	return nil
}

// readNeedsOf finds what depends on single columns. What depends on a view's rule depends on the view.
const readNeedsOf = `
select case when r.rulename = '_RETURN' then 'pg_catalog.pg_class'::regclass else d.classid end::oid,
       case when r.rulename = '_RETURN' then r.ev_class else d.objid end, d.refobjid, d.refobjsubid::smallint
from pg_catalog.pg_depend d
left join pg_catalog.pg_rewrite r on d.classid = 'pg_catalog.pg_rewrite'::regclass and r.oid = d.objid
where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjsubid > 0 and d.refobjid = any ($1)`

func readNeeds(ctx context.Context, conn *pgx.Conn, tables []mapping.Table) ([]need, error) {
	var changed []uint32
	for _, table := range tables {
		if columns := columnsOf(table); columns.changed() {
			changed = append(changed, table.OID)
		}
	}
	if len(changed) == 0 {
		return nil, nil
	}
	rows, err := conn.Query(ctx, readNeedsOf, changed)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (n need, err error) {
		return n, row.Scan(&n.Class, &n.OID, &n.Column.Relation, &n.Column.Num)
	})
}

// owner is the relation that an entry is a part of, or 0.
func (f facts) owner(e Entry) uint32 {
	switch e.Kind {
	case "INDEX":
		return f.indexes[e.OID].Relation
	case "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT":
		return f.constraints[e.OID].Relation
	case "TRIGGER":
		return f.triggers[e.OID].Relation
	case "RULE":
		return f.rules[e.OID]
	case "POLICY":
		return f.policies[e.OID]
	case "ROW SECURITY":
		return e.OID
	case "STATISTICS":
		return f.statistics[e.OID]
	case "DEFAULT":
		return f.defaults[e.OID].Relation
	}
	return 0
}

// partOf is the name that a part of a relation has in it, given the entry as it is on the source; "" for what has none.
func (f facts) partOf(e Entry) string {
	switch e.Kind {
	case "INDEX":
		return f.indexes[e.OID].Name
	case "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT":
		return f.constraints[e.OID].Name
	case "TRIGGER", "RULE", "POLICY":
		return strings.TrimPrefix(e.Tag, f.relations[f.owner(e)].Name.Name+" ")
	}
	return ""
}

func byOID[T any](ctx context.Context, conn *pgx.Conn, sql string, oid func(T) uint32) (map[uint32]T, error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	found := make(map[uint32]T, len(list))
	for _, item := range list {
		found[oid(item)] = item
	}
	return found, err
}
