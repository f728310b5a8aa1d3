package precheck

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// readLedgerRights asks by oid: by name it would be an error for a role that may not use the schema.
const readLedgerRights = `
select coalesce(bool_and(has_schema_privilege(n.oid, 'usage') and has_schema_privilege(n.oid, 'create')
    and has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
    and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete')), false)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'dts_sync' and c.relkind = 'r'`

// ledgerUsable reports whether there is a ledger on the target that this role may read and write.
func (l *look) ledgerUsable(ctx context.Context) (bool, error) {
	return value[bool](ctx, l.target, readLedgerRights)
}

// readSameTables finds tables by their names; foreign tables and views in a table's place are as bad.
const readSameTables = `
select n.nspname::text, c.relname::text, case c.relkind
    when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table' else 'table' end
from unnest($1::text[], $2::text[]) w (schema, name)
join pg_namespace n on n.nspname = w.schema
join pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind in ('r', 'p', 'f', 'v', 'm')
order by 1, 2`

type relation struct {
	Schema, Name, Kind string
}

// readMade lists what this migration has made on the target: a migration that goes on, or begins anew, finds its own. What
// was opened or settled is its user's.
const readMade = `
select schema, name
from (select migration, schema, split_part(name, '(', 1) as name from dts_sync.object where state = 'done'
      union select migration, schema, name from dts_sync.tbl) o
where migration = $1 and exists (select from dts_sync.migration m where m.id = $1 and m.opened_at is null and m.evidence is null)`

func (l *look) made(ctx context.Context) (map[migration.TableName]bool, error) {
	made := map[migration.TableName]bool{}
	usable, err := l.ledgerUsable(ctx)
	if err != nil || !usable {
		return made, err
	}
	found, err := rows[migration.TableName](ctx, l.target, readMade, l.Spec.ID)
	for _, name := range found {
		made[name] = true
	}
	return made, err
}

func targetSameTables(ctx context.Context, l *look) (finding, error) {
	tables, err := l.facts.tables()
	if err != nil {
		return finding{}, err
	}
	schemas, relations := make([]string, len(tables)), make([]string, len(tables))
	for i, table := range tables {
		schemas[i], relations[i] = table.Name.Schema, table.Name.Name
	}
	found, err := rows[relation](ctx, l.target, readSameTables, schemas, relations)
	if err != nil {
		return finding{}, err
	}
	made, err := l.made(ctx)
	if err != nil {
		return finding{}, err
	}
	var same, drops []string
	for _, r := range found {
		name := migration.TableName{Schema: r.Schema, Name: r.Name}
		if !made[name] {
			same = append(same, name.String())
			drops = append(drops, "drop "+r.Kind+" if exists "+name.SQL()+" cascade;")
		}
	}
	if len(same) > 0 {
		return failed("-- if nothing of it is needed any more, on the target; or name an empty database:\n"+statements(drops),
			"the target has %s of the same name already: %s", count(len(same), "table"), list(same)), nil
	}
	return passed("none of %s", count(len(tables), "table")), nil
}

// object is what the migration would create, beside tables. Identity is the name by which the server tells it from its
// like, such as public.f(integer).
type object struct {
	Kind, Schema, Name, Identity string
}

// readObjects leaves out the row types of tables and array types, which come with what they belong to, and what belongs
// to an extension. $1 holds the kinds of relations that are meant.
const readObjects = `
select i.type, n.nspname::text, o.name, i.identity
from (
    select c.tableoid as catalog, c.oid, c.relnamespace as namespace, c.relname::text as name from pg_class c
    where strpos($1, c.relkind::text) > 0 and c.relpersistence <> 't' and` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.typnamespace, c.typname from pg_type c
    where c.typtype in ('d', 'e', 'r') and` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.pronamespace, c.proname from pg_proc c where c.oid >= 16384 and` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.oprnamespace, c.oprname from pg_operator c where c.oid >= 16384 and` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.collnamespace, c.collname from pg_collation c where c.oid >= 16384 and` + notOfExtension + `
) o
join pg_namespace n on n.oid = o.namespace
cross join lateral pg_identify_object(o.catalog, o.oid, 0) i
where` + ofUsers + `
order by 1, 4`

// otherRelations are views, materialized views, sequences, foreign tables, composite types and indexes.
const otherRelations = "vmSfciI"

func targetSameObjects(ctx context.Context, l *look) (finding, error) {
	wanted, err := rows[object](ctx, l.source, readObjects, otherRelations)
	if err != nil {
		return finding{}, err
	}
	there, err := rows[object](ctx, l.target, readObjects, otherRelations+"rp")
	if err != nil {
		return finding{}, err
	}
	made, err := l.made(ctx)
	if err != nil {
		return finding{}, err
	}
	tables, err := l.madeTables(ctx)
	if err != nil {
		return finding{}, err
	}
	taken := map[string]object{}
	for _, o := range there {
		name := migration.TableName{Schema: o.Schema, Name: o.Name}
		if !made[name] && !tables[name] {
			taken[o.place()] = o
		}
	}
	var same, drops []string
	for _, o := range wanted {
		if other, ok := taken[o.place()]; ok {
			same = append(same, other.Kind+" "+other.Identity)
			drops = append(drops, other.drop())
		}
	}
	if len(same) > 0 {
		return failed("-- if nothing of it is needed any more, on the target; or name an empty database:\n"+statements(drops),
			"the target has %s of the same name already: %s", count(len(same), "object"), list(same)), nil
	}
	return passed("none of %s", count(len(wanted), "object")), nil
}

// place is where an object can stand in another's way: relations and types share their names, collations have their own.
func (o object) place() string {
	if o.Kind == "collation" {
		return "collation " + o.Identity
	}
	return o.Identity
}

// drop may find that the object has fallen with another.
func (o object) drop() string {
	kind := o.Kind
	if kind == "composite type" {
		kind = "type"
	}
	return "drop " + kind + " if exists " + o.Identity + " cascade;"
}

// readMadeTables lists indexes and sequences that belong to tables of this migration: the ledger names their tables.
const readMadeTables = `
select n.nspname::text, c.relname::text
from dts_sync.tbl t
join pg_namespace tn on tn.nspname = t.schema
join pg_class r on r.relnamespace = tn.oid and r.relname = t.name
join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = r.oid and d.classid = 'pg_class'::regclass
join pg_class c on c.oid = d.objid
join pg_namespace n on n.oid = c.relnamespace
where t.migration = $1
union
select n.nspname::text, c.relname::text
from dts_sync.tbl t
join pg_namespace n on n.nspname = t.schema
join pg_class r on r.relnamespace = n.oid and r.relname = t.name
join pg_index i on i.indrelid = r.oid
join pg_class c on c.oid = i.indexrelid
where t.migration = $1`

func (l *look) madeTables(ctx context.Context) (map[migration.TableName]bool, error) {
	made := map[migration.TableName]bool{}
	usable, err := l.ledgerUsable(ctx)
	if err != nil || !usable {
		return made, err
	}
	result, err := l.target.conn.Query(ctx, readMadeTables, l.Spec.ID)
	if err != nil {
		return made, err
	}
	var name migration.TableName
	_, err = pgx.ForEachRow(result, []any{&name.Schema, &name.Name}, func() error { made[name] = true; return nil })
	return made, err
}
