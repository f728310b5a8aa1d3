package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"
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
	triggers    map[uint32]trigger
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

func readFacts(ctx context.Context, conn *pgx.Conn) (facts, error) {
	tables, err := catalog.Tables(ctx, conn)
	if err != nil {
		return facts{}, err
	}
	f := facts{keys: map[uint32]string{}, insertOnly: map[uint32]bool{}}
	for _, table := range tables {
		if len(table.Key) > 0 {
			f.keys[table.OID] = table.KeyIndex
		}
		f.insertOnly[table.OID] = !table.Unlogged && table.Published(migration.InsertOnly) == catalog.PublishedInsert
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
		func() error { return f.readRulesAndCode(ctx, conn) },
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

const readRules = `select oid, ev_class from pg_catalog.pg_rewrite`

const readForeignCode = `
select p.oid from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
where l.lanname = 'c' and p.oid >= 16384`

func (f *facts) readRulesAndCode(ctx context.Context, conn *pgx.Conn) error {
	f.rules, f.foreignCode = map[uint32]uint32{}, map[uint32]bool{}
	rows, err := conn.Query(ctx, readRules)
	if err != nil {
		return err
	}
	var oid, relation uint32
	if _, err := pgx.ForEachRow(rows, []any{&oid, &relation}, func() error { f.rules[oid] = relation; return nil }); err != nil {
		return err
	}
	if rows, err = conn.Query(ctx, readForeignCode); err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, []any{&oid}, func() error { f.foreignCode[oid] = true; return nil })
	return err
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
