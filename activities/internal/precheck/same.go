package precheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
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

func (r relation) name() migration.TableName {
	return migration.TableName{Schema: r.Schema, Name: r.Name}
}

func (r relation) drop() string {
	return "drop " + r.Kind + " if exists " + r.name().SQL() + " cascade;"
}

// readMade lists what this migration has made on the target, by the names there: a migration that goes on, or begins anew,
// finds its own. A table that was there before it is not its own, and what was opened or settled is its user's.
const readMade = `
select schema, name
from (select migration, schema, split_part(name, '(', 1) as name from dts_sync.object
      where state = 'done' and message is distinct from $2
      union select migration, target_schema, target_name from dts_sync.tbl where not (def @> '{"existing": true}')) o
where migration = $1 and exists (select from dts_sync.migration m where m.id = $1 and m.opened_at is null and m.evidence is null)`

func (l *look) made(ctx context.Context) (map[migration.TableName]bool, error) {
	made := map[migration.TableName]bool{}
	usable, err := l.ledgerUsable(ctx)
	if err != nil || !usable {
		return made, err
	}
	found, err := rows[migration.TableName](ctx, l.target, readMade, l.Spec.ID, ledger.WasThere)
	for _, name := range found {
		made[name] = true
	}
	return made, err
}

func targetSameTables(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	schemas, relations := targets(tables)
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
		if !made[r.name()] {
			same = append(same, r.name().String())
			drops = append(drops, r.drop())
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

	Catalog          string
	OID              uint32
	Table            uint32 // that an index belongs to; a materialized view is one too
	OfSchema, OfName string // its name
	// Arguments of a function or an operator: schema and name of each type, and [] after an array's.
	ArgumentSchemas, ArgumentNames, ArgumentDimensions []string
}

func (o object) relation() migration.TableName {
	return migration.TableName{Schema: o.Schema, Name: o.Name}
}

// readObjects leaves out, on the source, functions in C, which are not made, and the row types of tables and array types, which come with what they belong to, and what belongs
// to an extension. $1 holds the kinds of relations that are meant.
const readObjects = `
select i.type, n.nspname::text, o.name, i.identity, o.catalog::regclass::text, o.oid,
       coalesce(r.oid, 0), coalesce(rn.nspname, '')::text, coalesce(r.relname, '')::text, a.schemas, a.names, a.dimensions
from (
    select c.tableoid as catalog, c.oid, c.relnamespace as namespace, c.relname::text as name, '{}'::oid[] as arguments
    from pg_class c
    where strpos($1, c.relkind::text) > 0 and c.relpersistence <> 't' and` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.typnamespace, c.typname, '{}' from pg_type c
    where (c.typtype in ('d', 'e', 'r') or c.typtype = 'b' and not (c.typelem <> 0 and c.typlen = -1)) and` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.pronamespace, c.proname, c.proargtypes::oid[] from pg_proc c join pg_language l on l.oid = c.prolang
    where c.oid >= 16384 and (l.lanname <> 'c' or strpos($1, 'r') > 0) and` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.oprnamespace, c.oprname, array[c.oprleft, c.oprright] from pg_operator c
    where c.oid >= 16384 and` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.collnamespace, c.collname, '{}' from pg_collation c
    where c.oid >= 16384 and` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.stxnamespace, c.stxname, '{}' from pg_statistic_ext c
    union all
    select c.tableoid, c.oid, c.connamespace, c.conname, '{}' from pg_conversion c where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.cfgnamespace, c.cfgname, '{}' from pg_ts_config c where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.dictnamespace, c.dictname, '{}' from pg_ts_dict c where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.prsnamespace, c.prsname, '{}' from pg_ts_parser c where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.tmplnamespace, c.tmplname, '{}' from pg_ts_template c where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.opcnamespace, m.amname || ' ' || c.opcname, '{}' from pg_opclass c join pg_am m on m.oid = c.opcmethod where` + notOfExtension + `
    union all
    select c.tableoid, c.oid, c.opfnamespace, m.amname || ' ' || c.opfname, '{}' from pg_opfamily c join pg_am m on m.oid = c.opfmethod where` + notOfExtension + `
) o
join pg_namespace n on n.oid = o.namespace
cross join lateral pg_identify_object(o.catalog, o.oid, 0) i
left join pg_index x on o.catalog = 'pg_class'::regclass and x.indexrelid = o.oid
left join pg_class r on r.oid = x.indrelid
left join pg_namespace rn on rn.oid = r.relnamespace
cross join lateral (
    select coalesce(array_agg(coalesce(tn.nspname::text, '') order by w.no), '{}') as schemas,
           coalesce(array_agg(coalesce(b.typname::text, '') order by w.no), '{}') as names,
           coalesce(array_agg(case when b.oid = t.oid then '' else '[]' end order by w.no), '{}') as dimensions
    from unnest(o.arguments) with ordinality w (oid, no)
    left join pg_type t on t.oid = w.oid
    left join pg_type b on b.oid = case when t.typelem <> 0 and t.typlen = -1 then t.typelem else t.oid end
    left join pg_namespace tn on tn.oid = b.typnamespace
) a
where` + ofUsers + `
order by 1, 4`

// otherRelations are views, materialized views, sequences, foreign tables, composite types and indexes.
const otherRelations = "vmSfciI"

func targetSameObjects(ctx context.Context, l *look) (finding, error) {
	wanted, rename, err := l.wanted(ctx)
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
			taken[o.place(asItIs)] = o
		}
	}
	var same, drops, kept []string
	for _, o := range wanted {
		other, ok := taken[o.place(rename)]
		switch {
		case !ok:
		case l.Spec.Conflict == migration.ConflictIgnore && o.Kind == other.Kind && o.Table == 0:
			kept = append(kept, other.Kind+" "+other.Identity)
		default:
			same = append(same, other.Kind+" "+other.Identity)
			drops = append(drops, other.drop())
		}
	}
	switch {
	case len(same) > 0:
		return failed("-- if nothing of it is needed any more, on the target; or name an empty database:\n"+statements(drops),
			"the target has %s of the same name already: %s", count(len(same), "object"), list(same)), nil
	case len(kept) > 0:
		return notice("", "conflict is ignore, so %s of the target of the same name stay as they are: %s",
			count(len(kept), "object"), list(kept)), nil
	}
	return passed("none of %s", count(len(wanted), "object")), nil
}

// wanted lists what the migration creates beside tables, and what names become. What belongs to a table that was there
// before stays as it is there.
func (l *look) wanted(ctx context.Context) ([]object, renaming, error) {
	c, err := l.facts.met()
	if err != nil {
		return nil, renaming{}, err
	}
	need, err := l.facts.needed()
	if err != nil {
		return nil, renaming{}, err
	}
	sequences, err := l.sequences(ctx)
	if err != nil {
		return nil, renaming{}, err
	}
	w := wants{choice: c, needed: need, byOID: map[uint32]mapping.Table{}, sequences: map[migration.TableName]bool{}}
	existing := map[migration.TableName]bool{}
	for _, table := range c.Tables {
		table.Existing = table.Existing && withOldTables(l.Spec)
		w.byOID[table.OID], existing[table.Name] = table, table.Existing
	}
	rename := renaming{schema: c.Names.Schema, relation: c.Names.Relation}
	followed := map[migration.TableName]migration.TableName{}
	for _, s := range sequences {
		w.sequences[s.Name], followed[s.Name] = !existing[s.Owner], s.target
	}
	rename.relation = func(name migration.TableName) migration.TableName {
		if to, ok := followed[name]; ok {
			return to
		}
		return c.Names.Relation(name)
	}
	all, err := rows[object](ctx, l.source, readObjects, otherRelations)
	return slices.DeleteFunc(all, func(o object) bool { return !w.wants(o) }), rename, err
}

// wants chooses among the objects of the source.
type wants struct {
	choice
	needed
	byOID     map[uint32]mapping.Table
	sequences map[migration.TableName]bool
}

func (w wants) wants(o object) bool {
	switch {
	case o.Kind == "sequence":
		return w.sequences[o.relation()]
	case o.Table != 0:
		if table, ok := w.byOID[o.Table]; ok {
			return !table.Existing
		}
		return w.means(migration.TableName{Schema: o.OfSchema, Name: o.OfName})
	case o.Catalog == "pg_class" && o.Kind != "composite type":
		return w.means(o.relation())
	}
	return w.has(o.Catalog, o.OID)
}

// renaming is what becomes of names on the way to the target.
type renaming struct {
	schema   func(string) string
	relation func(migration.TableName) migration.TableName
}

var asItIs = renaming{
	schema:   func(name string) string { return name },
	relation: func(name migration.TableName) migration.TableName { return name },
}

// place is where an object stands in another's way: relations and types share their names, functions and operators with
// other arguments are other ones, and collations have names of their own.
func (o object) place(rename renaming) string {
	switch o.Catalog {
	case "pg_collation", "pg_statistic_ext", "pg_conversion", "pg_ts_config", "pg_ts_dict", "pg_ts_parser", "pg_ts_template", "pg_opclass", "pg_opfamily":
		return fmt.Sprintf("%s %q %q", o.Catalog, rename.schema(o.Schema), o.Name)
	case "pg_proc", "pg_operator":
		place := fmt.Sprintf("%s %q %q", o.Catalog, rename.schema(o.Schema), o.Name)
		for i, schema := range o.ArgumentSchemas {
			argument := migration.TableName{Schema: schema, Name: o.ArgumentNames[i]}
			if schema != "pg_catalog" {
				argument = rename.relation(argument)
			}
			place += fmt.Sprintf(" %q %q%s", argument.Schema, argument.Name, o.ArgumentDimensions[i])
		}
		return place
	}
	name := rename.relation(o.relation())
	return fmt.Sprintf("%q %q", name.Schema, name.Name)
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
join pg_namespace tn on tn.nspname = t.target_schema
join pg_class r on r.relnamespace = tn.oid and r.relname = t.target_name
join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = r.oid and d.classid = 'pg_class'::regclass
join pg_class c on c.oid = d.objid
join pg_namespace n on n.oid = c.relnamespace
where t.migration = $1
union
select n.nspname::text, c.relname::text
from dts_sync.tbl t
join pg_namespace n on n.nspname = t.target_schema
join pg_class r on r.relnamespace = n.oid and r.relname = t.target_name
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
