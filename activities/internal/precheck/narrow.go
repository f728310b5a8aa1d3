package precheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// held is a column as far as it bounds what can be written into it.
type held struct {
	Schema, Table, Column string
	Type, Full            string // without and with its bounds
	Mod                   int32  // atttypmod
	NotNull, Generated    bool
	Computed              string   // what it is generated from, as column definitions say it
	Labels                []string // of an enum
}

// readHeld takes attgenerated, which came with 12, from the row as a whole.
const readHeld = `
select n.nspname::text, c.relname::text, a.attname::text, t.typname::text, format_type(a.atttypid, a.atttypmod),
       a.atttypmod, a.attnotnull, coalesce(to_jsonb(a) ->> 'attgenerated', '') <> '',
       coalesce((select format(' generated always as (%s)%s', pg_get_expr(d.adbin, d.adrelid), case to_jsonb(a) ->> 'attgenerated' when 's' then ' stored' end)
                 from pg_attrdef d where d.adrelid = a.attrelid and d.adnum = a.attnum and coalesce(to_jsonb(a) ->> 'attgenerated', '') <> ''), ''),
       array(select e.enumlabel::text from pg_enum e where e.enumtypid = t.oid order by e.enumsortorder)
from unnest($1::text[], $2::text[]) w (schema, name)
join pg_namespace n on n.nspname = w.schema
join pg_class c on c.relnamespace = n.oid and c.relname = w.name
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid`

type place struct{ schema, table, column string }

func (s session) held(ctx context.Context, schemas, relations []string) (map[place]held, error) {
	found, err := rows[held](ctx, s, readHeld, schemas, relations)
	columns := make(map[place]held, len(found))
	for _, h := range found {
		columns[place{h.Schema, h.Table, h.Column}] = h
	}
	return columns, err
}

// narrowed looks for columns of tables that are there whose values may not fit, or would be rounded without a word.
func (l *look) narrowed(ctx context.Context, tables []mapping.Table) ([]finding, error) {
	if !withRows(l.Spec) {
		return nil, nil
	}
	tables = slices.DeleteFunc(slices.Clone(tables), func(t mapping.Table) bool { return !t.Existing })
	if len(tables) == 0 {
		return nil, nil
	}
	schemas, relations := make([]string, len(tables)), make([]string, len(tables))
	for i, table := range tables {
		schemas[i], relations[i] = table.Name.Schema, table.Name.Name
	}
	here, err := l.source.held(ctx, schemas, relations)
	if err != nil {
		return nil, err
	}
	schemas, relations = targets(tables)
	there, err := l.target.held(ctx, schemas, relations)
	if err != nil {
		return nil, err
	}
	var n narrowness
	for _, table := range tables {
		for _, column := range table.Columns {
			from := here[place{table.Name.Schema, table.Name.Name, column.Name}]
			name, set := column.Name, false
			for _, c := range table.Into {
				if c.Source == column.Name {
					name, set = c.Name, c.Set != ""
				}
			}
			if to, ok := there[place{table.Target.Schema, table.Target.Name, name}]; ok && from.Column != "" && !set {
				n.compare(table.Target, from, to)
			}
		}
	}
	return n.findings(), nil
}

// narrowness is what was found, each kind with the statements that widen the target.
type narrowness struct {
	narrow, widen      []string
	rounded, exact     []string
	strict, loosen     []string
	computed, generate []string
	generated, plain   []string
}

func (n *narrowness) compare(table migration.TableName, from, to held) {
	column := fmt.Sprintf("%s.%s", table, to.Column)
	change := fmt.Sprintf("alter table %s alter column %s type %s;", table.SQL(), migration.Quote(to.Column), from.Full)
	anew := fmt.Sprintf("alter table %s drop column %s, add column %[2]s %s%s;", table.SQL(), migration.Quote(to.Column), from.Full, oneLine(from.Computed))
	switch {
	case from.Generated && !to.Generated:
		n.computed, n.generate = append(n.computed, column), append(n.generate, anew)
		return
	case to.Generated && !from.Generated:
		n.generated, n.plain = append(n.generated, column), append(n.plain, anew)
		return
	case to.Generated:
		return
	}
	if to.NotNull && !from.NotNull {
		n.strict = append(n.strict, column)
		n.loosen = append(n.loosen, fmt.Sprintf("alter table %s alter column %s drop not null;", table.SQL(), migration.Quote(to.Column)))
	}
	if lacking := without(from.Labels, to.Labels); len(to.Labels) > 0 && len(lacking) > 0 {
		n.narrow = append(n.narrow, fmt.Sprintf("%s (enum %s without %s)", column, to.Full, list(lacking)))
		for _, label := range lacking {
			n.widen = append(n.widen, fmt.Sprintf("alter type %s add value if not exists %s;", to.Full, migration.Literal(label)))
		}
	}
	what := fmt.Sprintf("%s (%s into %s)", column, from.Full, to.Full)
	switch {
	case from.rounds(to):
		n.rounded, n.exact = append(n.rounded, what), append(n.exact, change)
	case from.exceeds(to):
		n.narrow, n.widen = append(n.narrow, what), append(n.widen, change)
	}
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
}

// ranks order the types of whole and of broken numbers by what they hold.
var (
	wholeRanks  = map[string]int{"int2": 1, "int4": 2, "int8": 3, "numeric": 4}
	brokenRanks = map[string]int{"float4": 1, "float8": 2}
	textTypes   = []string{"text", "varchar", "bpchar", "bit", "varbit"}
	timeTypes   = []string{"timestamp", "timestamptz", "time", "timetz", "interval"}
)

const unbounded = -1

// exceeds: a value may be too large, or too long, which the target refuses.
func (h held) exceeds(to held) bool {
	switch a, b := wholeRanks[h.Type], wholeRanks[to.Type]; {
	case a > 0 && b > 0 && a > b:
		return true
	case h.Type == "numeric" && to.Type == "numeric" && to.Mod != unbounded:
		return h.Mod == unbounded || h.digits() > to.digits()
	case b > 0 && to.Type == "numeric" && to.Mod != unbounded && a > 0:
		return to.digits() < []int32{0, 5, 10, 19}[a]
	}
	if slices.Contains(textTypes, to.Type) && to.Mod != unbounded {
		return !slices.Contains(textTypes, h.Type) || h.Mod == unbounded || h.Mod > to.Mod
	}
	return false
}

// rounds: the target would take a value and keep another one.
func (h held) rounds(to held) bool {
	switch {
	case brokenRanks[h.Type] > brokenRanks[to.Type] && brokenRanks[to.Type] > 0:
		return true
	case h.Type == "numeric" && brokenRanks[to.Type] > 0:
		return true
	case (h.Type == "numeric" || brokenRanks[h.Type] > 0) && to.Type == "numeric" && to.Mod != unbounded:
		return h.Type != "numeric" || h.Mod == unbounded || h.scale() > to.scale()
	case slices.Contains(timeTypes, h.Type) && h.Type == to.Type && to.Mod != unbounded:
		return h.Mod == unbounded && to.precision() < 6 || h.Mod != unbounded && h.precision() > to.precision()
	}
	return false
}

// typmodHeader is what the server adds to the bounds of numbers and texts (VARHDRSZ).
const typmodHeader = 4

// scale may be negative since 15: it has eleven bits and a sign.
func (h held) scale() int32 { return ((h.Mod-typmodHeader)&0x7ff ^ 1024) - 1024 }

// digits are those before the point.
func (h held) digits() int32 { return (h.Mod-typmodHeader)>>16&0xffff - h.scale() }

func (h held) precision() int32 { return h.Mod & 0xffff }

func (n narrowness) findings() []finding {
	var found []finding
	add := func(fix string, names []string, format string) {
		if len(names) > 0 {
			found = append(found, alert(fix, format, list(names)))
		}
	}
	const onTarget = "-- on the target:\n"
	add(onTarget+statements(n.widen), n.narrow, "columns of the target hold less than those of the source, and a value that does not fit stops the migration: %s")
	add(onTarget+statements(n.exact), n.rounded, "columns of the target round what those of the source hold, and the rows are not equal then: %s")
	add(onTarget+statements(n.loosen), n.strict, "columns are NOT NULL on the target alone, and a row without a value stops the migration: %s")
	add(onTarget+statements(n.generate), n.computed, "columns are generated on the source alone, and stay empty on the target: %s")
	add(onTarget+statements(n.plain), n.generated, "columns are generated on the target alone, which does not take the source's values: %s")
	return found
}
