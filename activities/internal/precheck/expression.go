package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/syntax"
	"github.com/pgdts/pgdts/workflows/migration"
)

// expression is SQL of the definition over a row of a table.
type expression struct {
	key    string // where, dropIf, or set with the column's name
	text   string
	column string // of the target, that it is cast for; "" = a condition
	stamp  bool   // it asks for the time, and need not be immutable
}

// filters tries where out on both servers.
func filters(ctx context.Context, l *look) (finding, error) {
	return l.tryAll(ctx, mapping.KindFilter, func(t mapping.Table) []expression {
		if t.Where == "" {
			return nil
		}
		return []expression{{key: "where", text: t.Where}}
	})
}

// transformations tries set and dropIf out.
func transformations(ctx context.Context, l *look) (finding, error) {
	return l.tryAll(ctx, mapping.KindTransform, func(t mapping.Table) []expression {
		var found []expression
		for _, c := range t.Into {
			if c.Set != "" {
				found = append(found, expression{key: "set " + c.Name, text: c.Set, column: c.Name, stamp: c.Stamp})
			}
		}
		if t.DropIf != "" {
			found = append(found, expression{key: "dropIf", text: t.DropIf})
		}
		return found
	})
}

// refused is an expression that a server does not take.
type refused struct {
	expression
	trouble
	side  migration.Side
	table migration.TableName
}

func (r refused) finding(more int) finding {
	at, others := "", ""
	if r.position > 0 {
		at = fmt.Sprintf(" at character %d", r.position)
	}
	if more > 0 {
		others = " and of " + count(more, "table") + " like it"
	}
	fix := fmt.Sprintf("correct %s of %s in the definition: %s", r.key, r.table, oneLine(r.text))
	if r.hint != "" {
		fix += "\n-- " + oneLine(r.hint)
	}
	return failed(fix, "%s of %s%s: the %s says: %s%s, in: %s",
		r.key, r.table, others, r.side, oneLine(r.message), at, oneLine(r.text))
}

// tryAll tries the expressions of every table, once where tables of the same columns have the same ones.
func (l *look) tryAll(ctx context.Context, kind mapping.Kind, of func(mapping.Table) []expression) (finding, error) {
	c, err := l.facts.chosen()
	if err == nil && l.target.usable() {
		known := c.problems
		c, err = l.facts.met()
		c.problems = slices.Concat(known, c.problems)
	}
	if err != nil {
		return finding{}, err
	}
	tried := trials{look: l, names: c.Names, alike: map[string]int{}}
	var expressions int
	for _, table := range c.Tables {
		if some := of(table); len(some) > 0 {
			expressions += len(some)
			if err := tried.table(ctx, table, some); err != nil {
				return finding{}, err
			}
		}
	}
	found := tried.findings()
	if len(found) == 0 {
		found = append(problems(c.problems, kind), tried.doubts()...)
	}
	switch all := together(found); {
	case all.state != "":
		return all, nil
	case expressions == 0:
		return passed("none"), nil
	}
	if !l.target.usable() {
		return passed("%s tried out on the source", count(expressions, "expression")), nil
	}
	return passed("%s tried out on both servers", count(expressions, "expression")), nil
}

// trials remembers what was tried, and what could not be.
type trials struct {
	*look
	names   mapping.Names
	alike   map[string]int // tables, by everything that their trial depends on
	refused []refused
	trial   []string  // of each refusal: the key in alike
	unknown []string  // expressions that the target cannot judge before it has the schema
	unsure  []session // on which no temporary table can be made
}

// table tries expressions in the place of one table, on the source and, where they pass, on the target.
func (t *trials) table(ctx context.Context, table mapping.Table, some []expression) error {
	here, there, err := t.shapes(ctx, table)
	if err != nil {
		return err
	}
	trial := fmt.Sprint(here, there, some)
	t.alike[trial]++
	if t.alike[trial] > 1 {
		return nil
	}
	first, err := t.try(ctx, t.source, here, some)
	if err != nil {
		return err
	}
	theirs, unnamed := t.renamed(some)
	second := make([]outcome, len(some))
	if t.target.usable() {
		if second, err = t.try(ctx, t.target, there, theirs); err != nil {
			return err
		}
	}
	for i, e := range some {
		switch {
		case first[i].message != "":
			t.refuse(refused{e, first[i].trouble, source, table.Name}, trial)
		case unnamed[i] != nil:
			t.refuse(refused{e, trouble{message: unnamed[i].Error()}, target, table.Name}, trial)
		case second[i].message == "":
		case first[i].foreign && withSchema(t.Spec) && second[i].absent():
			t.unknown = append(t.unknown, fmt.Sprintf("%s of %s", e.key, table.Name))
		default:
			t.refuse(refused{theirs[i], second[i].trouble, target, table.Name}, trial)
		}
	}
	return nil
}

// renamed are the texts with the names that types and functions have on the target, or why they cannot be had.
func (t *trials) renamed(some []expression) (theirs []expression, errs []error) {
	theirs, errs = slices.Clone(some), make([]error, len(some))
	if t.names.Same() {
		return theirs, errs
	}
	for i, e := range some {
		if text, err := syntax.RenameExpression(e.text, t.names); err != nil {
			errs[i] = fmt.Errorf("names in it cannot follow: %w", err)
		} else {
			theirs[i].text = text
		}
	}
	return theirs, errs
}

func (t *trials) refuse(r refused, trial string) {
	t.refused, t.trial = append(t.refused, r), append(t.trial, trial)
}

func (t *trials) findings() []finding {
	found := make([]finding, len(t.refused))
	for i, r := range t.refused {
		found[i] = r.finding(t.alike[t.trial[i]] - 1)
	}
	return found
}

// doubts are what could not be tried.
func (t *trials) doubts() []finding {
	var found []finding
	for _, s := range t.unsure {
		database := s.server.Database()
		found = append(found, alert(fmt.Sprintf("grant temporary on database %s to %s;", migration.Quote(database), migration.Quote(s.role)),
			"role %s may not create temporary tables in database %s of the %s, so it is not proved that the expressions give the same whenever "+
				"they are asked (immutable)", s.role, database, s.server.Side))
	}
	if len(t.unknown) > 0 {
		found = append(found, notice("", "types or functions come with the schema, so the target could not try out: %s", list(t.unknown)))
	}
	return found
}

// shape is what a table looks like to its expressions on one server.
type shape struct {
	columns []shapeColumn
	casts   map[string]string // column of the target → the type that its value is cast to, where that is known
}

type shapeColumn struct {
	name, typed, collation string
}

func (c shapeColumn) definition() string {
	if c.collation == "" {
		return c.typed
	}
	return c.typed + " collate " + c.collation
}

// shapes: both have the source's columns under their names there, because both servers evaluate the same text over the
// same values. A type of a user may be another one on the target, or not there yet; then the column is left out.
func (t *trials) shapes(ctx context.Context, table mapping.Table) (here, there shape, err error) {
	actual := map[string]targetColumn{}
	var lacking map[string]bool
	if t.target.usable() {
		if actual, err = t.targetColumns(ctx, table.Target); err != nil {
			return here, there, err
		}
		if lacking, err = t.lackingTypes(ctx, table); err != nil {
			return here, there, err
		}
	}
	into := map[string]string{}
	for _, c := range table.Into {
		if c.Source != "" && c.Set == "" {
			into[c.Source] = c.Name
		}
	}
	for _, c := range table.DataColumns() {
		column := shapeColumn{c.Name, c.Type, c.Collation}
		here.columns = append(here.columns, column)
		if a, ok := actual[into[c.Name]]; ok && c.TypeOID >= firstOfUsers {
			column.typed = a.Type
		}
		if c.TypeOID < firstOfUsers || column.typed != c.Type || !lacking[c.Type] {
			there.columns = append(there.columns, column)
		}
	}
	here.casts, there.casts = casts(table, actual, lacking)
	return here, there, nil
}

// casts are the types that expressions are cast to on the source and on the target: the one of the target's column, as
// far as the server knows it.
func casts(table mapping.Table, actual map[string]targetColumn, lacking map[string]bool) (here, there map[string]string) {
	here, there = map[string]string{}, map[string]string{}
	for _, c := range table.Into {
		column, fromSource := table.Column(c.Source)
		a, isThere := actual[c.Name]
		switch {
		case isThere:
			there[c.Name] = a.Type
		case fromSource && !lacking[column.Type]:
			there[c.Name] = column.Type
		}
		switch {
		case isThere && a.Stock:
			here[c.Name] = a.Type
		case fromSource:
			here[c.Name] = column.Type
		}
	}
	return here, there
}

type targetColumn struct {
	Name, Type string
	Stock      bool // the type is one that every server has
}

// readTargetColumns leaves lengths out, as the copy does: a value that is too long is an error, where a cast would cut it.
const readTargetColumns = `
select a.attname::text, format_type(a.atttypid, -1), a.atttypid < 16384
from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped`

// targetColumns are those of the table that is there already, if one is.
func (t *trials) targetColumns(ctx context.Context, name migration.TableName) (map[string]targetColumn, error) {
	found, err := rows[targetColumn](ctx, t.target, readTargetColumns, name.Schema, name.Name)
	columns := map[string]targetColumn{}
	for _, c := range found {
		columns[c.Name] = c
	}
	return columns, err
}

const readLackingTypes = `select w.type from unnest($1::text[]) w (type) where to_regtype(w.type) is null`

// lackingTypes are types of users that the target does not have, or not yet.
func (t *trials) lackingTypes(ctx context.Context, table mapping.Table) (map[string]bool, error) {
	wanted := []string{}
	for _, c := range table.DataColumns() {
		if c.TypeOID >= firstOfUsers && !slices.Contains(wanted, c.Type) {
			wanted = append(wanted, c.Type)
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	found, err := rows[struct{ Type string }](ctx, t.target, readLackingTypes, wanted)
	lacking := map[string]bool{}
	for _, f := range found {
		lacking[f.Type] = true
	}
	return lacking, err
}

// firstOfUsers is where the oids of what users and extensions make begin (FirstNormalObjectId).
const firstOfUsers = 16384

// definitions are the columns for a temporary table.
func (s shape) definitions() string {
	parts := make([]string, len(s.columns))
	for i, c := range s.columns {
		parts[i] = migration.Quote(c.name) + " " + c.definition()
	}
	return strings.Join(parts, ", ")
}

// nulls are the columns as a row without values.
func (s shape) nulls() string {
	parts := make([]string, len(s.columns))
	for i, c := range s.columns {
		parts[i] = "null::" + c.typed + " as " + migration.Quote(c.name)
	}
	return strings.Join(parts, ", ")
}

// before is what stands before an expression to make a condition of it, as the copy asks it.
const before = "(("

// behind stands behind it. The line break keeps a comment at its end from swallowing the parenthesis.
func (s shape) behind(e expression) string {
	cast, known := s.casts[e.column]
	switch {
	case e.column == "":
		return "\n) is true)"
	case known:
		return "\n)::" + cast + " is null)"
	}
	return "\n) is null)"
}
