package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

// What a server brings itself changes from version to version. A user's object that leans on something that the target's
// server does not have cannot be made there. The catalog keeps no dependency on what a server brings, but names it by oids
// below firstOfUsers: in columns, and in the trees of views, rules, defaults, constraints, indexes, triggers, policies and
// functions.

// unmade is about objects that cannot be made on the target. With onObjectFailure they may be left out, which a person has
// to want; where nobody is asked the migration fails.
func (l *look) unmade(fix, format string, args ...any) finding {
	if l.Spec.Schema.OnObjectFailure == "fail" {
		return failed(fix, format, args...)
	}
	return alert(fix, format, args...)
}

// leaning is a user's object with something of the server's that it names.
type leaning struct {
	Catalog string // of the object that must be meant
	OID     uint32
	Title   string
	Kind    string // function, operator, relation, column
	Schema  string
	Name    string
	Left    string // operand types of an operator; the column of a relation
	Right   string
	Arity   int // of a function
}

func (u leaning) what() string {
	switch u.Kind {
	case "operator":
		return "operator " + strings.TrimSpace(u.Left+" "+u.Name+" "+u.Right)
	case "column":
		return fmt.Sprintf("column %s of %s.%s", u.Left, u.Schema, u.Name)
	case "relation":
		return u.Schema + "." + u.Name
	}
	return "function " + u.Name
}

// readLeanings takes what came with 11 to 14 from the rows as a whole. In a tree, a function that is called has
// funcformat 0, where a cast has another one and is written as a cast; the columns that are read stand as bits behind the
// relation, counted from the first of the hidden columns, of which there is one less since 12.
const readLeanings = `
with trees as (
    select 'pg_class' as catalog, r.ev_class as oid, c.tableoid as class, c.oid as object, r.ev_action::text as tree
    from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
    where` + ofUsers + ` and` + notOfExtension + `
    union all
    select 'pg_class', c.oid, c.tableoid, c.oid, t.tree
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (
        select d.adbin::text from pg_attrdef d where d.adrelid = c.oid
        union all select k.conbin::text from pg_constraint k where k.conrelid = c.oid
        union all select i.indexprs::text || coalesce(i.indpred::text, '') from pg_index i where i.indrelid = c.oid
        union all select i.indpred::text from pg_index i where i.indrelid = c.oid and i.indexprs is null
        union all select g.tgqual::text from pg_trigger g where g.tgrelid = c.oid
        union all select coalesce(o.polqual::text, '') || coalesce(o.polwithcheck::text, '') from pg_policy o where o.polrelid = c.oid
        union all select p.partexprs::text from pg_partitioned_table p where p.partrelid = c.oid
    ) t (tree)
    where t.tree <> '' and c.relkind in ('r', 'p', 'f', 'v', 'm') and` + ofUsers + ` and` + notOfExtension + `
    union all
    select 'pg_type', c.oid, c.tableoid, c.oid, t.tree
    from pg_type c join pg_namespace n on n.oid = c.typnamespace
    cross join lateral (select c.typdefaultbin::text union all select k.conbin::text from pg_constraint k where k.contypid = c.oid) t (tree)
    where c.typtype = 'd' and t.tree <> '' and` + ofUsers + ` and` + notOfExtension + `
    union all
    select 'pg_proc', c.oid, c.tableoid, c.oid, coalesce(c.proargdefaults::text, '') || coalesce(to_jsonb(c) ->> 'prosqlbody', '')
    from pg_proc c join pg_namespace n on n.oid = c.pronamespace
    where (c.proargdefaults is not null or to_jsonb(c) ->> 'prosqlbody' is not null) and` + ofUsers + ` and` + notOfExtension + `
), named as (
    select t.catalog, t.oid, t.class, t.object, 'function' as kind, coalesce(m[1], m[2])::oid as ref, '' as bits
    from trees t cross join lateral regexp_matches(t.tree,
        '\{FUNCEXPR :funcid (\d+) :funcresulttype \d+ :funcretset \w+ :funcvariadic \w+ :funcformat 0|:(?:aggfnoid|winfnoid) (\d+)', 'g') m
    union
    select t.catalog, t.oid, t.class, t.object, 'operator', m[1]::oid, ''
    from trees t cross join lateral regexp_matches(t.tree, ':opno (\d+)', 'g') m
    union
    select t.catalog, t.oid, t.class, t.object, 'relation', m[1]::oid, m[2]
    from trees t cross join lateral regexp_matches(t.tree, ':relid (\d+) (?:(?!:relid |:selectedCols ).)*:selectedCols \(b([ 0-9]*)\)', 'g') m
)
select distinct u.catalog, u.oid, i.type || ' ' || i.identity, k.*
from named u
cross join lateral (
    select u.kind, n.nspname::text, p.proname::text, '', '', p.pronargs::int
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where u.kind = 'function' and p.oid = u.ref
    union all
    select u.kind, n.nspname::text, o.oprname::text, coalesce(a.typname::text, ''), coalesce(b.typname::text, ''), 0
    from pg_operator o join pg_namespace n on n.oid = o.oprnamespace
    left join pg_type a on a.oid = o.oprleft left join pg_type b on b.oid = o.oprright
    where u.kind = 'operator' and o.oid = u.ref
    union all
    select u.kind, n.nspname::text, c.relname::text, '', '', 0
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where u.kind = 'relation' and c.oid = u.ref
    union all
    select 'column', n.nspname::text, c.relname::text, a.attname::text, '', 0
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    cross join lateral unnest(string_to_array(nullif(trim(u.bits), ''), ' ')::int[]) b (bit)
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and a.attnum = b.bit - $1
    where u.kind = 'relation' and c.oid = u.ref
) k
cross join lateral pg_identify_object(u.class, u.object, 0) i
where u.ref > 0 and u.ref < 16384
order by 3, 4, 5, 6`

// readLacking returns the numbers, from 1, of what the server does not have. Functions count by name and number of
// arguments, because a call finds one whose types its arguments can be cast to; an operator's operands may be of any type
// where the server's are.
const readLacking = `
select w.no::int
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[]) with ordinality w (kind, schema, name, lhs, rhs, arity, no)
where not case w.kind
    when 'function' then exists (
        select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname = w.schema and p.proname = w.name
          and (p.provariadic <> 0 or w.arity between p.pronargs - p.pronargdefaults and p.pronargs))
    when 'operator' then exists (
        select from pg_operator o join pg_namespace n on n.oid = o.oprnamespace
        left join pg_type a on a.oid = o.oprleft left join pg_type b on b.oid = o.oprright
        where n.nspname = w.schema and o.oprname = w.name
          and case when w.lhs = '' then a.oid is null else a.typname = w.lhs or a.typtype = 'p' end
          and case when w.rhs = '' then b.oid is null else b.typname = w.rhs or b.typtype = 'p' end)
    when 'relation' then exists (
        select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = w.schema and c.relname = w.name)
    else exists (
        select from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = w.schema and c.relname = w.name and a.attname = w.lhs and not a.attisdropped)
    end`

// hiddenColumns is how far a column's bit is from its number.
func (s session) hiddenColumns() int {
	if s.version < 120000 {
		return 8
	}
	return 7
}

// leanings are those of objects that the definition means, and that the target's server cannot satisfy.
func (l *look) leanings(ctx context.Context) ([]leaning, error) {
	need, err := l.facts.needed()
	if err != nil {
		return nil, err
	}
	all, err := rows[leaning](ctx, l.source, readLeanings, l.source.hiddenColumns())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(u leaning) bool { return !need.has(u.Catalog, u.OID) })
	kinds, schemas, names, lefts, rights, arities := []string{}, []string{}, []string{}, []string{}, []string{}, []int{}
	for _, u := range all {
		kinds, schemas, names = append(kinds, u.Kind), append(schemas, u.Schema), append(names, u.Name)
		lefts, rights, arities = append(lefts, u.Left), append(rights, u.Right), append(arities, u.Arity)
	}
	missing, err := rows[struct{ No int }](ctx, l.target, readLacking, kinds, schemas, names, lefts, rights, arities)
	var lacking []leaning
	for _, m := range missing {
		lacking = append(lacking, all[m.No-1])
	}
	return lacking, err
}

// pinned is a user's object that is made of a function of the server's, which must have this very signature.
type pinned struct {
	OID            uint32
	Catalog, Title string
	Function       string // "" = one of a user
	Postfix        string // "yes": an operator that stands behind its operand
}

const readPinned = `
select o.oid, o.catalog, i.type || ' ' || i.identity,
       coalesce(p.proname || '(' || array_to_string(array(
           select t.typname::text from unnest(p.proargtypes::oid[]) with ordinality a (oid, no) join pg_type t on t.oid = a.oid order by a.no), ',') || ')', ''),
       o.postfix
from (
    select c.oid, 'pg_proc' as catalog, 'pg_proc'::regclass as class, c.pronamespace as namespace, f.oid as ref, '' as postfix
    from pg_proc c join pg_aggregate g on g.aggfnoid = c.oid
    cross join lateral unnest(array[g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn]::oid[]) f (oid)
    where` + notOfExtension + `
    union all
    select c.oid, 'pg_operator', 'pg_operator'::regclass, c.oprnamespace, c.oprcode, case when c.oprkind = 'r' then 'yes' else '' end
    from pg_operator c where` + notOfExtension + `
) o
join pg_namespace n on n.oid = o.namespace
left join pg_proc p on p.oid = o.ref and p.oid < 16384
cross join lateral pg_identify_object(o.class, o.oid, 0) i
where (p.oid is not null or o.postfix <> '') and o.oid >= 16384 and` + ofUsers + `
order by 3`

const readLackingSignatures = `
select w.text from unnest($1::text[]) w (text)
where not exists (
    select from pg_proc p
    where p.proname = split_part(w.text, '(', 1)
      and w.text = p.proname || '(' || array_to_string(array(
          select t.typname::text from unnest(p.proargtypes::oid[]) with ordinality a (oid, no) join pg_type t on t.oid = a.oid order by a.no), ',') || ')')`

// unmakeable are aggregates and operators that the target's version has no way to make.
func (l *look) unmakeable(ctx context.Context) ([]string, error) {
	need, err := l.facts.needed()
	if err != nil {
		return nil, err
	}
	all, err := rows[pinned](ctx, l.source, readPinned)
	if err != nil {
		return nil, err
	}
	wanted := []string{}
	for _, p := range all {
		if p.Function != "" && !slices.Contains(wanted, p.Function) {
			wanted = append(wanted, p.Function)
		}
	}
	missing, err := rows[struct{ Signature string }](ctx, l.target, readLackingSignatures, wanted)
	var named []string
	for _, p := range all {
		lacks := slices.ContainsFunc(missing, func(m struct{ Signature string }) bool { return m.Signature == p.Function })
		switch {
		case !need.has(p.Catalog, p.OID):
		case p.Postfix != "" && l.target.version >= 140000:
			named = append(named, p.Title+" (it stands behind its operand)")
		case lacks:
			named = append(named, fmt.Sprintf("%s (%s)", p.Title, p.Function))
		}
	}
	return slices.Compact(named), err
}

// serverObjects: a view over a column that a newer server has renamed, or an aggregate made of a function whose arguments
// have others types there, cannot be made on the target.
func serverObjects(ctx context.Context, l *look) (finding, error) {
	leanings, err := l.leanings(ctx)
	if err != nil {
		return finding{}, err
	}
	named, err := l.unmakeable(ctx)
	if err != nil {
		return finding{}, err
	}
	by := map[string][]string{}
	var titles []string
	for _, u := range leanings {
		if by[u.Title] == nil {
			titles = append(titles, u.Title)
		}
		by[u.Title] = append(by[u.Title], u.what())
	}
	for _, title := range titles {
		named = append(named, fmt.Sprintf("%s (%s)", title, list(by[title])))
	}
	if len(named) == 0 {
		return passed("nothing leans on what the target's server does not have"), nil
	}
	return l.unmade("write them anew on the source so that they do without, or drop them there, or give the target the source's version",
		"objects lean on what PostgreSQL %s of the target does not have: %s", versionText(l.target.version), list(named)), nil
}

// typeUse is a place where a type of the server's stands.
type typeUse struct {
	Catalog              string
	OID                  uint32
	Title                string
	Schema, Name, Column string // of a table's column
	Type                 string
	Array                bool
}

const readTypeUses = `
select u.catalog, u.oid, i.type || ' ' || i.identity, u.schema, u.name, u.col, coalesce(e.typname, t.typname)::text, e.oid is not null
from (
    select 'pg_class' as catalog, c.oid, 'pg_class'::regclass as class, n.nspname::text as schema, c.relname::text as name,
           a.attname::text as col, a.attnum::int as num, a.atttypid as typed
    from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'f', 'c', 'v', 'm') and c.relpersistence <> 't' and a.attnum > 0 and not a.attisdropped and` + ofUsers + ` and` + notOfExtension + `
    union all
    select 'pg_type', c.oid, 'pg_type'::regclass, '', '', '', 0, coalesce(nullif(c.typbasetype, 0), r.rngsubtype)
    from pg_type c join pg_namespace n on n.oid = c.typnamespace left join pg_range r on r.rngtypid = c.oid
    where c.typtype in ('d', 'r') and` + ofUsers + ` and` + notOfExtension + `
    union all
    select 'pg_proc', c.oid, 'pg_proc'::regclass, '', '', '', 0, g.typed
    from pg_proc c join pg_namespace n on n.oid = c.pronamespace cross join lateral unnest(c.proargtypes::oid[] || c.prorettype) g (typed)
    where` + ofUsers + ` and` + notOfExtension + `
) u
join pg_type t on t.oid = u.typed
left join pg_type e on e.oid = t.typelem and t.typlen = -1
cross join lateral pg_identify_object(u.class, u.oid, u.num) i
where coalesce(e.oid, t.oid) < 16384
order by 3, 7`

const readLackingStock = `
select w.name from unnest($1::text[]) w (name)
where not exists (select from pg_type t where t.typname = w.name and t.oid < 16384)`

// successors are the types that stand for those that are gone.
var successors = map[string]string{"abstime": "timestamp with time zone", "reltime": "interval", "tinterval": "text"}

func (u typeUse) fix() string {
	name := migration.TableName{Schema: u.Schema, Name: u.Name}
	column, to := migration.Quote(u.Column), successors[u.Type]
	if to == "" {
		to = "text"
	}
	array := ""
	if u.Array {
		array = "[]"
	}
	return fmt.Sprintf("alter table %s alter column %s type %s%s using %s::text%s::%[3]s%[4]s;", name.SQL(), column, to, array, column, array)
}

// columnTypes: a type that the server brings and the target's does not have. Without its columns a table cannot be made,
// and has no place to copy rows to.
func columnTypes(ctx context.Context, l *look) (finding, error) {
	need, err := l.facts.needed()
	if err != nil {
		return finding{}, err
	}
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	uses, err := rows[typeUse](ctx, l.source, readTypeUses)
	if err != nil {
		return finding{}, err
	}
	wanted := []string{}
	for _, u := range uses {
		if !slices.Contains(wanted, u.Type) {
			wanted = append(wanted, u.Type)
		}
	}
	missing, err := rows[struct{ Type string }](ctx, l.target, readLackingStock, wanted)
	if err != nil {
		return finding{}, err
	}
	selected := oids(tables)
	var columns, fixes, others []string
	for _, u := range uses {
		lacks := slices.ContainsFunc(missing, func(m struct{ Type string }) bool { return m.Type == u.Type })
		switch {
		case !lacks:
		case slices.Contains(selected, u.OID):
			columns, fixes = append(columns, fmt.Sprintf("%s.%s.%s (%s)", u.Schema, u.Name, u.Column, u.Type)), append(fixes, u.fix())
		case need.has(u.Catalog, u.OID):
			others = append(others, fmt.Sprintf("%s (%s)", u.Title, u.Type))
		}
	}
	version := versionText(l.target.version)
	switch {
	case len(columns) > 0:
		return failed("-- on the source; it rewrites the tables:\n"+statements(fixes),
			"PostgreSQL %s of the target does not have the types of columns: %s", version, list(slices.Concat(columns, others))), nil
	case len(others) > 0:
		return l.unmade("give them another type on the source, or drop them there, or give the target the source's version",
			"PostgreSQL %s of the target does not have types that objects name: %s", version, list(others)), nil
	}
	return passed("the target has all %s of the server's that are used", count(len(wanted), "type")), nil
}
