package activities

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

var (
	seeds     = flag.Int("seeds", 200, "random migrations to try")
	firstSeed = flag.Uint64("seed", 1, "the first of them")
)

// TestRandomSelectionsArriveAsPromised makes a random schema with rows, a random definition over it, and migrates while a
// client writes. What must be on the target is told by SQL over the source that this test derives from its own choices.
func TestRandomSelectionsArriveAsPromised(t *testing.T) {
	t.Parallel()
	for n := range uint64(*seeds) {
		t.Run(fmt.Sprint(*firstSeed+n), func(t *testing.T) {
			t.Parallel()
			newChance(*firstSeed + n).migrate(t)
		})
	}
}

// chance is one random migration.
type chance struct {
	*rand.Rand
	schemas []string
	tables  []*chanceTable
	naming  migration.Case
}

// chanceTable is a table with what the definition says of it.
type chanceTable struct {
	schema, name string
	columns      []chanceColumn
	key          []string // empty: no key, and no updates or deletes of single rows
	partitioned  bool
	parent       *chanceTable // a foreign key refers to it

	selected          bool
	toSchema, toTable string
	where, dropIf     string
	set               map[string]string
	left              map[string]bool
	renamed           map[string]string
}

type chanceColumn struct{ name, typ string }

// values are expressions that make a value of a type out of a number.
var values = map[string]string{
	"int":         "($1::bigint % 1000000)::int",
	"bigint":      "$1::bigint * 1000003",
	"text":        "'t' || $1::bigint",
	"uuid":        "md5($1::bigint::text)::uuid",
	"numeric":     "$1::bigint / 100.0",
	"boolean":     "$1::bigint % 2 = 0",
	"timestamptz": "timestamptz '2024-01-01 00:00Z' + $1::bigint * interval '1 minute'",
	"jsonb":       "jsonb_build_object('n', $1::bigint, 'a', array[$1::bigint, null])",
	"long":        "repeat(md5($1::bigint::text), 120)",
	"mood":        "(array['sad', 'ok', 'Happy'])[1 + $1::bigint % 3]",
}

var keyTypes = []string{"int", "bigint", "text", "uuid"}

func newChance(seed uint64) *chance {
	c := &chance{Rand: rand.New(rand.NewPCG(seed, 7)), naming: migration.CaseSource}
	c.schemas = []string{"public", "app", "Big Co"}[:1+c.IntN(3)]
	for n := range 2 + c.IntN(4) {
		c.tables = append(c.tables, c.table(n))
	}
	return c
}

func (c *chance) table(n int) *chanceTable {
	t := &chanceTable{
		schema: c.schemas[c.IntN(len(c.schemas))], name: []string{"t%d", "Table %d", "order_%d"}[c.IntN(3)],
		set: map[string]string{}, left: map[string]bool{}, renamed: map[string]string{},
	}
	t.name = fmt.Sprintf(t.name, n)
	if c.IntN(8) > 0 {
		t.key = append(t.key, "id")
		t.columns = append(t.columns, chanceColumn{"id", keyTypes[c.IntN(len(keyTypes))]})
		if c.IntN(4) == 0 {
			t.key = append(t.key, "part")
			t.columns = append(t.columns, chanceColumn{"part", "int"})
			t.partitioned = c.IntN(2) == 0
		}
	}
	t.columns = append(t.columns, chanceColumn{"n", "int"}, chanceColumn{"Note", "text"})
	for i, typ := range []string{"numeric", "boolean", "timestamptz", "jsonb", "long", "mood", "bigint"} {
		if c.IntN(2) == 0 {
			t.columns = append(t.columns, chanceColumn{fmt.Sprintf("c%d", i), typ})
		}
	}
	if c.IntN(2) == 0 {
		t.columns = append(t.columns, chanceColumn{"Next", "next"})
	}
	if c.IntN(3) == 0 && len(c.tables) > 0 {
		if parent := c.tables[c.IntN(len(c.tables))]; slices.Equal(parent.key, []string{"id"}) && !parent.partitioned {
			t.parent = parent
			t.columns = append(t.columns, chanceColumn{"parent", parent.columns[0].typ})
		}
	}
	return t
}

// schemaSQL creates the tables, a view over each, and rows.
func (c *chance) schemaSQL() string {
	var sql strings.Builder
	for _, schema := range c.schemas {
		fmt.Fprintf(&sql, "create schema if not exists %[1]s; create type %[1]s.mood as enum ('sad', 'ok', 'Happy');\n", migration.Quote(schema))
	}
	for _, t := range c.tables {
		var columns []string
		for _, column := range t.columns {
			columns = append(columns, migration.Quote(column.name)+" "+t.sqlType(column.typ))
		}
		if len(t.key) > 0 {
			columns = append(columns, "primary key ("+migration.QuoteList(t.key)+")")
		}
		if t.parent != nil {
			columns = append(columns, "foreign key (parent) references "+t.parent.from())
		}
		fmt.Fprintf(&sql, "create table %s (%s)", t.from(), strings.Join(columns, ", "))
		if t.partitioned {
			fmt.Fprintf(&sql, " partition by hash (part);\n")
			for i := range 2 {
				leaf := migration.TableName{Schema: t.schema, Name: fmt.Sprintf("%s leaf %d", t.name, i)}
				fmt.Fprintf(&sql, "create table %s partition of %s for values with (modulus 2, remainder %d)", leaf.SQL(), t.from(), i)
				sql.WriteString(";\n")
			}
		}
		fmt.Fprintf(&sql, ";\ncreate index on %s (n, \"Note\");\n", t.from())
		view := migration.TableName{Schema: t.schema, Name: "view of " + t.name}
		fmt.Fprintf(&sql, "create view %s as select n, \"Note\" as text from %s;\n", view.SQL(), t.from())
	}
	return sql.String()
}

func (t *chanceTable) from() string { return migration.TableName{Schema: t.schema, Name: t.name}.SQL() }

func (t *chanceTable) to() string {
	return migration.TableName{Schema: t.toSchema, Name: t.toTable}.SQL()
}

func (t *chanceTable) sqlType(typ string) string {
	switch typ {
	case "long":
		return "text"
	case "next":
		return "int generated always as (n + 1) stored"
	case "mood":
		return migration.Quote(t.schema) + ".mood"
	}
	return typ
}

// value is the text of a column's value for a number; every seventh that may be is NULL.
func (t *chanceTable) value(column chanceColumn, n int) string {
	if column.typ == "next" {
		return "default"
	}
	if column.name == "parent" || n%7 == 0 && !slices.Contains(t.key, column.name) {
		return "null"
	}
	value := strings.ReplaceAll(values[column.typ], "$1", fmt.Sprint(n))
	if column.typ == "mood" {
		return "(" + value + ")::" + t.sqlType("mood")
	}
	return value
}

// insert makes a row; its key comes from id, the rest from n.
func (t *chanceTable) insert(id, n int) string {
	var texts []string
	for _, column := range t.columns {
		switch {
		case slices.Contains(t.key, column.name):
			texts = append(texts, t.value(column, id))
		case column.name == "parent" && n%2 == 0:
			texts = append(texts, "(select id from "+t.parent.from()+" order by md5(id::text) limit 1)")
		default:
			texts = append(texts, t.value(column, n))
		}
	}
	conflict := ""
	if len(t.key) > 0 {
		conflict = " on conflict do nothing"
	}
	return fmt.Sprintf("insert into %s values (%s)%s", t.from(), strings.Join(texts, ", "), conflict)
}

func (t *chanceTable) at(id int) string {
	var terms []string
	for _, column := range t.columns {
		if slices.Contains(t.key, column.name) {
			terms = append(terms, migration.Quote(column.name)+" = "+t.value(column, id))
		}
	}
	return strings.Join(terms, " and ")
}

// change is a random statement on a random table.
func (c *chance) change() string {
	t := c.tables[c.IntN(len(c.tables))]
	id, n := 1+c.IntN(60), c.IntN(5000)
	kind := c.IntN(6)
	if len(t.key) == 0 || kind < 2 {
		return t.insert(id, n)
	}
	column := t.columns[c.IntN(len(t.columns))]
	switch {
	case kind == 2:
		return "delete from " + t.from() + " where " + t.at(id)
	case column.name == "parent":
		return "update " + t.from() + " set parent = null where " + t.at(id)
	case slices.Contains(t.key, column.name):
		return fmt.Sprintf("update %s set %s = %s where %s", t.from(), migration.Quote(column.name), t.value(column, 1+c.IntN(80)), t.at(id))
	case column.typ == "next":
		return fmt.Sprintf("update %s set n = %d where %s", t.from(), n, t.at(id))
	}
	return fmt.Sprintf("update %s set %s = %s where %s", t.from(), migration.Quote(column.name), t.value(column, n), t.at(id))
}

// define makes a definition, and notes in the tables what it must come to.
func (c *chance) define(spec *migration.Spec) {
	schemas := map[string]string{}
	whole := c.IntN(3) > 0
	if c.IntN(4) == 0 {
		c.naming = []migration.Case{migration.CaseLower, migration.CaseUpper, migration.CaseDefault}[c.IntN(3)]
	}
	spec.Names.Case = c.naming
	for _, schema := range c.schemas {
		schemas[schema] = c.cased(schema, migration.CaseDefault)
		if whole {
			o := migration.Object{Schema: schema}
			if c.IntN(3) == 0 {
				o.Rename = "to " + schema
				schemas[schema] = o.Rename
			}
			spec.Objects = append(spec.Objects, o)
		}
	}
	for _, t := range c.tables {
		t.selected, t.toSchema, t.toTable = whole, schemas[t.schema], c.cased(t.name, migration.CaseDefault)
		for _, column := range t.columns {
			t.renamed[column.name] = c.cased(column.name, "")
		}
		if c.IntN(2) == 0 && (whole || len(spec.Objects) > 0 && c.IntN(2) == 0) {
			continue
		}
		t.selected = true
		spec.Objects = append(spec.Objects, c.entry(t))
	}
	c.transform(spec)
	c.parents(spec, whole)
	spec.WithoutKey, spec.Identity = migration.InsertOnly, migration.IdentitySetFull
	if c.IntN(2) == 0 {
		spec.WithoutKey = migration.FullIdentity
	}
}

// cased is what names.case makes of a name; some is a policy that also counts.
func (c *chance) cased(name string, some migration.Case) string {
	fold := func(from, to rune, by rune) string {
		return strings.Map(func(r rune) rune {
			if r >= from && r <= to {
				return r + by
			}
			return r
		}, name)
	}
	if c.naming == migration.CaseUpper {
		return fold('a', 'z', 'A'-'a')
	}
	if c.naming == migration.CaseLower || c.naming == some {
		return fold('A', 'Z', 'a'-'A')
	}
	return name
}

var conditions = []string{`n % 3 <> 0`, `n > 1000 or n is null`, `"Note" is distinct from 't4'`, `coalesce(n, 0) between 100 and 4000`}

func (c *chance) entry(t *chanceTable) migration.Object {
	o := migration.Object{Table: pattern(t.schema) + "." + pattern(t.name)}
	if c.IntN(3) == 0 {
		t.toTable = "new " + t.name
		o.Rename = `"` + t.toTable + `"`
	}
	if c.IntN(3) == 0 && !c.referred(t) {
		t.where = conditions[c.IntN(len(conditions))]
		o.Where = t.where
	}
	for _, column := range t.columns {
		switch c.IntN(8) {
		case 0:
			if !slices.Contains(t.key, column.name) && column.name != "n" && column.name != "Note" && column.name != "parent" { // which the view, the index and the key need
				t.left[column.name] = true
				o.Columns.Exclude = append(o.Columns.Exclude, column.name)
			}
		case 1:
			t.renamed[column.name] = "the " + column.name
			if o.Columns.Rename == nil {
				o.Columns.Rename = map[string]string{}
			}
			o.Columns.Rename[column.name] = t.renamed[column.name]
		}
	}
	return o
}

// referred reports whether a foreign key needs all rows of a table.
func (c *chance) referred(t *chanceTable) bool {
	return slices.ContainsFunc(c.tables, func(o *chanceTable) bool { return o.parent == t })
}

func pattern(name string) string { return `"` + name + `"` }

func (c *chance) transform(spec *migration.Spec) {
	for _, t := range c.tables {
		if !t.selected || c.IntN(4) > 0 {
			continue
		}
		change := migration.Transform{Tables: []string{pattern(t.schema) + "." + pattern(t.name)}, Set: map[string]string{}}
		if c.IntN(2) == 0 && !c.referred(t) {
			t.dropIf = `n = 7 or "Note" = 't11'`
			change.DropIf = t.dropIf
		}
		t.set["Note"] = `coalesce("Note", '') || '!' || coalesce(n::text, '-')`
		if c.IntN(2) == 0 {
			t.set["n"] = "n * 2"
		}
		maps.Copy(change.Set, t.set)
		spec.Transform = append(spec.Transform, change)
	}
}

// parents selects what foreign keys need.
func (c *chance) parents(spec *migration.Spec, whole bool) {
	for changed := !whole; changed; {
		changed = false
		for _, t := range c.tables {
			if t.selected && t.parent != nil && !t.parent.selected {
				t.parent.selected, changed = true, true
				spec.Objects = append(spec.Objects, migration.Object{Table: pattern(t.parent.schema) + "." + pattern(t.parent.name)})
			}
		}
	}
}

// promised are the rows that must be there, and arrived those that are, each as sorted texts.
func (t *chanceTable) promised() string {
	var outputs []string
	for _, column := range t.columns {
		if t.left[column.name] {
			continue
		}
		value := migration.Quote(column.name)
		if set, ok := t.set[column.name]; ok {
			value = "(" + set + ")"
		}
		if set, ok := t.set["n"]; ok && column.typ == "next" {
			value = "((" + set + ") + 1)"
		}
		outputs = append(outputs, value+"::text")
	}
	condition := "true"
	if t.where != "" {
		condition = "(" + t.where + ") is true"
	}
	if t.dropIf != "" {
		condition += " and (" + t.dropIf + ") is not true"
	}
	return fmt.Sprintf("select r from (select concat_ws('|', %s) as r from %s where %s) s order by r collate \"C\"", shown(outputs), t.from(), condition)
}

func (t *chanceTable) arrived() string {
	var outputs []string
	for _, column := range t.columns {
		if !t.left[column.name] {
			outputs = append(outputs, migration.Quote(t.renamed[column.name])+"::text")
		}
	}
	return fmt.Sprintf("select r from (select concat_ws('|', %s) as r from %s) s order by r collate \"C\"", shown(outputs), t.to())
}

// shown tells NULL from an empty text, and keeps long values short.
func shown(outputs []string) string {
	for i, output := range outputs {
		outputs[i] = "coalesce(case when length(" + output + ") > 100 then md5(" + output + ") else " + output + " end, '<null>')"
	}
	return strings.Join(outputs, ", ")
}

func (c *chance) migrate(t *testing.T) {
	server := pgtest.Shared(t)
	r := &trial{from: pgtest.Database(t, server), to: pgtest.Database(t, server)}
	r.from.Exec(t, c.schemaSQL())
	for _, table := range c.tables {
		var inserts []string
		for range c.IntN(50) {
			inserts = append(inserts, table.insert(1+c.IntN(60), c.IntN(5000)))
		}
		r.from.Exec(t, strings.Join(append(inserts, "select 1"), ";\n"))
	}
	r.spec = migration.Spec{
		ID: migration.RandomID("chance"), Source: migration.Endpoint{URI: r.from.URI}, Target: migration.Endpoint{URI: r.to.URI},
		Cutover: migration.Cutover{Mode: "auto", SteadyFor: migration.Duration(1), Verify: "hash"},
	}
	c.define(&r.spec)
	r.spec.Defaults()
	require.NoError(t, r.spec.Validate())
	t.Logf("%s\n%+v\n%+v", c.schemaSQL(), r.spec.Objects, r.spec.Transform)

	writing, stop := context.WithCancel(t.Context())
	wrote := make(chan struct{})
	go func() { // ends with the fence, or with writing
		defer close(wrote)
		c.write(writing, r.from.URI)
	}()
	defer func() { stop(); <-wrote }()
	r.advance(t, "run", "constraints")
	evidence, err := cutover.Run(t.Context(), r.as(t, "run", unseen).cutover())
	require.NoError(t, err)
	stop()
	<-wrote
	require.Equal(t, "hash", evidence.Verified)
	for _, table := range c.tables {
		if !table.selected {
			require.Empty(t, r.to.Query(t, "select to_regclass($1)::text where to_regclass($1) is not null", table.to()), "%s is not meant", table.from())
			continue
		}
		require.Equal(t, r.from.Query(t, table.promised()), r.to.Query(t, table.arrived()), "%s became %s", table.from(), table.to())
	}
	require.Equal(t, "0", r.to.Query(t, "select coalesce(sum(conflicts), 0) from dts_sync.tbl")[0][0])
}

// write commits random changes, one to three at a time, until ctx ends or the fence refuses them. Changes that break a
// constraint are part of life.
func (c *chance) write(ctx context.Context, uri string) {
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for ctx.Err() == nil {
		var statements []string
		for range 1 + c.IntN(3) {
			statements = append(statements, c.change())
		}
		_, err := conn.Exec(ctx, strings.Join(statements, ";\n"), pgx.QueryExecModeSimpleProtocol)
		if err != nil && strings.Contains(err.Error(), "moved to") {
			return
		}
	}
}
