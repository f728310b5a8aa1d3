package mapping

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Read reads the source's catalog and resolves a definition. It asks for more than tables only where the definition
// chooses or renames something.
func Read(ctx context.Context, source *pgx.Conn, spec migration.Spec) (Selection, []Problem, error) {
	tables, err := catalog.Tables(ctx, source)
	if err != nil {
		return Selection{}, nil, err
	}
	r := newResolver(spec, tables)
	if len(spec.Objects) == 0 && len(spec.Transform) == 0 && (spec.Names.Case == "" || spec.Names.Case == migration.CaseSource) {
		selection, problems := r.resolve()
		return selection, problems, nil
	}
	if err := r.readSource(ctx, source); err != nil {
		return Selection{}, nil, fmt.Errorf("read what a definition means: %w", err)
	}
	return r.selection, r.problems, nil
}

func (r *resolver) readSource(ctx context.Context, source *pgx.Conn) error {
	schemas, err := ask[string](ctx, source, readSchemas, pgx.RowTo)
	if err != nil {
		return err
	}
	for _, name := range schemas {
		r.addSchema(name)
	}
	relations, err := ask[relation](ctx, source, readRelations, pgx.RowToStructByPos)
	if err != nil {
		return err
	}
	r.others = map[migration.TableName]string{}
	for _, other := range relations {
		if kind := otherKinds[other.Kind]; kind != "index" {
			r.others[other.name()] = kind
		}
	}
	r.resolve()
	r.nameOthers(relations)
	if err := r.readParents(ctx, source); err != nil {
		return err
	}
	if err := r.readPartitionKeys(ctx, source); err != nil {
		return err
	}
	if !r.spec.Has(migration.TypeSchema) || r.selection.Names.Same() {
		return nil
	}
	named, err := ask[named](ctx, source, readNamed, pgx.RowToStructByPos)
	if err == nil {
		r.collide(relations, named)
	}
	return err
}

func ask[T any](ctx context.Context, conn *pgx.Conn, sql string, scan pgx.RowToFunc[T], args ...any) ([]T, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// ofUsers chooses what belongs to users: n is the schema.
const ofUsers = `n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync') and n.nspname !~ '^pg_(toast|temp_|toast_temp_)'`

const readSchemas = `select n.nspname::text from pg_namespace n where ` + ofUsers + ` order by 1`

// relation is one that holds no rows of its own for us.
type relation struct {
	Schema, Name, Kind string
	OwnerSchema, Owner string // the table of an index, or whose column owns a sequence
	OwnerColumn        string
}

func (r relation) name() migration.TableName {
	return migration.TableName{Schema: r.Schema, Name: r.Name}
}

func (r relation) owner() migration.TableName {
	return migration.TableName{Schema: r.OwnerSchema, Name: r.Owner}
}

// otherKinds says what relkinds are.
var otherKinds = map[string]string{
	"v": "view", "m": "materialized view", "f": "foreign table", "S": "sequence", "i": "index", "I": "index", "c": "type",
}

const readRelations = `
select n.nspname::text, c.relname::text, c.relkind::text, coalesce(p.nspname::text, ''), coalesce(o.relname::text, ''), coalesce(a.attname::text, '')
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
left join pg_index i on i.indexrelid = c.oid
left join pg_depend d on c.relkind = 'S' and d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
    and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i')
left join pg_class o on o.oid = coalesce(i.indrelid, d.refobjid)
left join pg_namespace p on p.oid = o.relnamespace
left join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
where c.relkind in ('v', 'm', 'f', 'S', 'i', 'I') and c.relpersistence <> 't' and ` + ofUsers + `
  and not exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
order by 1, 2`

// nameOthers gives names to what is no table. Views first: an index may belong to one.
func (r *resolver) nameOthers(relations []relation) {
	names := &r.selection.Names
	for _, other := range relations {
		if other.Owner == "" && other.Kind != "S" {
			to := migration.TableName{Schema: names.Schema(other.Schema), Name: fold(other.Name, objectCase(r.spec.Names.Case))}
			names.add(other.name(), to)
		}
	}
	for _, other := range relations {
		if other.Owner != "" {
			names.add(other.name(), migration.TableName{Schema: names.Relation(other.owner()).Schema, Name: other.Name})
		}
	}
}

// link is a table that cannot be made without another one.
type link struct {
	Child              uint32
	Parent             uint32
	ParentSchema, Name string
	Constraint         string // "" = inherits
	Columns            []string
}

// readLinks leaves out constraints that belong to another one's, by conparentid, which is there since 11.
const readLinks = `
select k.conrelid, k.confrelid, n.nspname::text, p.relname::text, k.conname::text,
       array(select a.attname::text from pg_attribute a where a.attrelid = k.conrelid and a.attnum = any (k.conkey))
from pg_constraint k
join pg_class p on p.oid = k.confrelid
join pg_namespace n on n.oid = p.relnamespace
where k.contype = 'f' and coalesce(to_jsonb(k) ->> 'conparentid', '0') = '0'
union all
select h.inhrelid, h.inhparent, n.nspname::text, p.relname::text, '', '{}'
from pg_inherits h
join pg_class c on c.oid = h.inhrelid and not c.relispartition and c.relkind in ('r', 'p')
join pg_class p on p.oid = h.inhparent
join pg_namespace n on n.oid = p.relnamespace
order by 1, 5, 2`

// readParents finds selected tables whose parents are not, or not with all rows.
func (r *resolver) readParents(ctx context.Context, source *pgx.Conn) error {
	if len(r.selection.Tables) == len(r.tables) && !slices.ContainsFunc(r.selection.Tables, Table.Filtered) {
		return nil
	}
	links, err := ask[link](ctx, source, readLinks, pgx.RowToStructByPos)
	if err != nil {
		return err
	}
	for _, l := range links {
		child, selected := r.selection.Table(l.Child)
		parent, there := r.selection.Table(l.Parent)
		switch {
		case selected && !there:
			r.lacksParent(child, l)
		case selected && l.Constraint != "" && parent.Filtered() && r.spec.Has(migration.TypeSchema):
			r.alert(KindParents, child.Name.String(), "filter "+child.Name.String()+" alike, so that no row refers to one that is left out; or, on the source, alter table "+
				child.Name.SQL()+" drop constraint "+migration.Quote(l.Constraint)+";",
				"table %s refers to %s by foreign key %s, and rows of %s are left out: one that is referred to keeps the key from being created",
				child.Name, parent.Name, l.Constraint, parent.Name)
		}
	}
	return nil
}

func (r *resolver) lacksParent(child Table, l link) {
	parent := migration.TableName{Schema: l.ParentSchema, Name: l.Name}
	with := r.spec.Has(migration.TypeSchema)
	leftOut := func(column string) bool {
		return !slices.ContainsFunc(child.Into, func(c Column) bool { return c.Source == column })
	}
	fix := fmt.Sprintf("select it too, by an entry with table: %s; or leave %s out; or, on the source: alter table %s ",
		patternOf(parent), child.Name, child.Name.SQL())
	switch {
	case l.Constraint == "" && with:
		r.problem(KindParents, child.Name.String(), fix+"no inherit "+parent.SQL(),
			"table %s inherits from %s, which is not selected", child.Name, parent)
	case l.Constraint == "", slices.ContainsFunc(l.Columns, leftOut): // the key goes with its column
	default:
		r.add(Problem{
			Kind: KindParents, Object: child.Name.String(), Alert: !with,
			Text: fmt.Sprintf("table %s refers to %s by foreign key %s, and %s is not selected", child.Name, parent, l.Constraint, parent),
			Fix:  fix + "drop constraint " + migration.Quote(l.Constraint),
		})
	}
}

// partitionKey are the columns that say which partition a row is in.
type partitionKey struct {
	OID     uint32
	Columns []string
}

const readPartitionKeys = `
select p.partrelid, array(select a.attname::text from pg_attribute a where a.attrelid = p.partrelid and a.attnum = any (p.partattrs::int2[]))
from pg_partitioned_table p order by 1`

// readPartitionKeys finds columns that rows cannot do without or change, because they say which partition a row is in.
func (r *resolver) readPartitionKeys(ctx context.Context, source *pgx.Conn) error {
	changed := func(t Table) bool {
		return t.Kind == "p" && (len(t.Into) < len(t.DataColumns()) || slices.ContainsFunc(t.Into, func(c Column) bool { return c.Set != "" }))
	}
	if !slices.ContainsFunc(r.selection.Tables, changed) || !r.spec.Has(migration.TypeSchema) {
		return nil
	}
	keys, err := ask[partitionKey](ctx, source, readPartitionKeys, pgx.RowToStructByPos)
	if err != nil {
		return err
	}
	for _, key := range keys {
		t, _ := r.selection.Table(key.OID)
		for _, name := range key.Columns {
			at := slices.IndexFunc(t.Into, func(c Column) bool { return c.Source == name })
			switch {
			case t.OID == 0:
			case at < 0:
				r.problem(KindColumns, t.Name.String(), "take the column into the columns of the table again",
					"column %s of %s cannot be left out: the table is partitioned by it", name, t.Name)
			case t.Into[at].Set != "":
				r.problem(KindTransform, t.Name.String(), "make the table on the target and take schema out of types, or do not set the column",
					"set %s of %s: the table is partitioned by it, and a row would belong into another partition", name, t.Name)
			}
		}
	}
	return nil
}
