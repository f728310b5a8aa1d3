package apply

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// shape is what statements of one table have in common.
type shape struct {
	form   form
	absent string // columns left out, or for rows without key those that are NULL in the old row
}

// form is a kind of statement. Most kinds of action are one statement; identity columns GENERATED ALWAYS, which can be
// inserted and never set, make it two.
type form byte

const (
	formRemove form = iota
	formChange
	formMove
	formInsert
	formPut
	formInsertNew    // insert where the key is free
	formReplace      // delete and insert again, taking along what the change does not say
	formReplaceFixed // the same, only where a fixed column differs
	formRemoveFixed  // delete only where a fixed column differs
	formRemoveWhole  // delete one row that is equal in all columns
	formChangeWhole  // update one row that is equal in all columns
)

// prepared is a statement and which values it takes: first of the rows that are looked for, then of the new ones.
type prepared struct {
	sql     string
	name    string // "" until it is prepared in this session
	at      []int
	image   []int
	scalars bool // takes values of one row instead of arrays
}

// forms are the statements of an action, in order; their counts are added up.
func (t *table) forms(k kind) []form {
	switch {
	case t.keyless() && k == remove:
		return []form{formRemoveWhole}
	case t.keyless() && k == change:
		return []form{formChangeWhole}
	case k == remove:
		return []form{formRemove}
	case k == insert:
		return []form{formInsert}
	case k == move && (t.alwaysK || len(t.fixed) > 0):
		return []form{formReplace}
	case k == move:
		return []form{formMove}
	case k == change && len(t.fixed) > 0:
		return []form{formChange, formReplaceFixed}
	case k == change:
		return []form{formChange}
	case len(t.fixed) > 0:
		return []form{formRemoveFixed, formPut}
	}
	return []form{formPut}
}

// statement builds or finds the statement of a shape.
func (t *table) statement(s shape) *prepared {
	p := t.statements[s]
	if p == nil {
		p = t.build(s)
		t.statements[s] = p
	}
	return p
}

func (t *table) build(s shape) *prepared {
	switch s.form {
	case formRemove:
		return t.buildRemove(nil)
	case formRemoveFixed:
		return t.buildRemove(t.fixed)
	case formChange:
		return t.buildChange(t.settable(s.absent, t.loose))
	case formMove:
		return t.buildChange(t.settable(s.absent, true))
	case formReplace:
		return t.buildReplace(s, nil)
	case formReplaceFixed:
		return t.buildReplace(s, t.fixed)
	case formRemoveWhole, formChangeWhole:
		return t.buildWhole(s)
	case formInsert:
		if t.insertOnly() {
			return t.buildInsert(" on conflict do nothing")
		}
		return t.buildInsert("")
	case formInsertNew:
		return t.buildInsert(" on conflict (" + t.keyList() + ") do nothing")
	case formPut:
		return t.buildInsert(t.onConflict())
	}
	panic("no such form of statement")
}

// only keeps statements off the children of an inheritance parent, which are tables of their own.
func (t *table) only() string {
	if t.whole {
		return t.target.SQL()
	}
	return "only " + t.target.SQL()
}

// known are the columns that a mask leaves.
func (t *table) known(absent string) []int {
	columns := make([]int, 0, len(t.columns))
	for i := range t.columns {
		if !isAbsent(absent, i) {
			columns = append(columns, i)
		}
	}
	return columns
}

// settable are the columns of an UPDATE's SET.
func (t *table) settable(absent string, withKey bool) []int {
	return slices.DeleteFunc(t.known(absent), func(i int) bool {
		return t.columns[i].always || !withKey && slices.Contains(t.key, i)
	})
}

// arrays is the FROM item that makes rows of the parameters: columns o<i> to find rows, n<i> for new values.
func (p *prepared) arrays() string {
	var parameters, names []string
	for _, i := range p.at {
		parameters = append(parameters, fmt.Sprintf("$%d::text[]", len(parameters)+1))
		names = append(names, fmt.Sprintf("o%d", i))
	}
	for _, i := range p.image {
		parameters = append(parameters, fmt.Sprintf("$%d::text[]", len(parameters)+1))
		names = append(names, fmt.Sprintf("n%d", i))
	}
	return "unnest(" + strings.Join(parameters, ", ") + ") as x(" + strings.Join(names, ", ") + ")"
}

// matches compares the key by the operators of its index, and fixed columns, if any, for a difference.
func (t *table) matches(fixed []int) string {
	var terms []string
	for _, i := range t.key {
		c := t.columns[i]
		terms = append(terms, fmt.Sprintf("t.%s %s x.o%d::%s", migration.Quote(c.name), c.equal, i, c.cast))
	}
	var differ []string
	for _, i := range fixed {
		c := t.columns[i]
		differ = append(differ, fmt.Sprintf("t.%s <> x.n%d::%s", migration.Quote(c.name), i, c.cast))
	}
	if len(differ) > 0 {
		terms = append(terms, "("+strings.Join(differ, " or ")+")")
	}
	return strings.Join(terms, " and ")
}

func (t *table) buildRemove(fixed []int) *prepared {
	p := &prepared{at: t.key, image: fixed}
	p.sql = fmt.Sprintf("delete from %s as t using %s where %s", t.only(), p.arrays(), t.matches(fixed))
	return p
}

// buildChange leaves rows alone whose fixed columns would have to change.
func (t *table) buildChange(set []int) *prepared {
	p := &prepared{at: t.key, image: set}
	where := t.matches(nil)
	for _, i := range t.fixed {
		p.image = append(slices.Clone(p.image), i)
		where += fmt.Sprintf(" and t.%s = x.n%d::%s", migration.Quote(t.columns[i].name), i, t.columns[i].cast)
	}
	var sets []string
	for _, i := range set {
		sets = append(sets, fmt.Sprintf("%s = x.n%d::%s", migration.Quote(t.columns[i].name), i, t.columns[i].cast))
	}
	if len(sets) == 0 { // nothing but the key: only the count is of interest
		p.sql = fmt.Sprintf("select from %s as t, %s where %s", t.only(), p.arrays(), where)
		return p
	}
	p.sql = fmt.Sprintf("update %s as t set %s from %s where %s", t.only(), strings.Join(sets, ", "), p.arrays(), where)
	return p
}

// buildReplace deletes and inserts in one statement; what is absent comes from the deleted row.
func (t *table) buildReplace(s shape, fixed []int) *prepared {
	p := &prepared{at: t.key, image: t.known(s.absent)}
	var names, values, returned []string
	for i, c := range t.columns {
		names = append(names, migration.Quote(c.name))
		if isAbsent(s.absent, i) {
			returned = append(returned, fmt.Sprintf("t.%s as n%d", migration.Quote(c.name), i))
			values = append(values, fmt.Sprintf("d.n%d", i))
			continue
		}
		returned = append(returned, fmt.Sprintf("x.n%d", i))
		values = append(values, fmt.Sprintf("d.n%d::%s", i, c.cast))
	}
	p.sql = fmt.Sprintf("with d as (delete from %s as t using %s where %s returning %s) "+
		"insert into %s (%s) overriding system value select %s from d",
		t.only(), p.arrays(), t.matches(fixed), strings.Join(returned, ", "),
		t.target.SQL(), strings.Join(names, ", "), strings.Join(values, ", "))
	return p
}

func (t *table) buildInsert(onConflict string) *prepared {
	p := &prepared{image: t.known("")}
	if len(t.columns) == 0 {
		p.sql = "insert into " + t.target.SQL() + " default values" + onConflict
		return p
	}
	var names, values []string
	for i, c := range t.columns {
		names = append(names, migration.Quote(c.name))
		values = append(values, fmt.Sprintf("x.n%d::%s", i, c.cast))
	}
	overriding := ""
	if t.alwaysK || len(t.fixed) > 0 {
		overriding = "overriding system value "
	}
	p.sql = fmt.Sprintf("insert into %s (%s) %sselect %s from %s", t.target.SQL(), strings.Join(names, ", "), overriding,
		strings.Join(values, ", "), p.arrays()) + onConflict
	return p
}

// onConflict sets the key's columns too where equal keys may have different texts.
func (t *table) onConflict() string {
	var sets []string
	for _, i := range t.settable("", t.loose) {
		name := migration.Quote(t.columns[i].name)
		sets = append(sets, name+" = excluded."+name)
	}
	if len(sets) == 0 {
		return " on conflict (" + t.keyList() + ") do nothing"
	}
	return " on conflict (" + t.keyList() + ") do update set " + strings.Join(sets, ", ")
}

func (t *table) keyList() string {
	var names []string
	for _, i := range t.key {
		names = append(names, t.columns[i].name)
	}
	return migration.QuoteList(names)
}

// nulls is the mask of a shape for rows that are found by all their columns.
func nulls(at row) string {
	set := make([]byte, (len(at)+7)/8)
	for i := range at {
		if at[i].Kind == wal.Null {
			set[i/8] |= 1 << (i % 8)
		}
	}
	return string(set)
}

// buildWhole finds one row that is equal in all columns: duplicates are told apart by their place in the table. A
// partitioned table has many places of the same number.
func (t *table) buildWhole(s shape) *prepared {
	p := &prepared{scalars: true}
	var terms []string
	for i, c := range t.columns {
		if isAbsent(s.absent, i) {
			terms = append(terms, fmt.Sprintf("s.%s is null", migration.Quote(c.name)))
			continue
		}
		p.at = append(p.at, i)
		terms = append(terms, c.identical(len(p.at)))
	}
	if len(terms) == 0 {
		terms = []string{"true"}
	}
	where := "t.ctid = (select s.ctid from " + t.only() + " as s where " + strings.Join(terms, " and ") + " limit 1)"
	from := ""
	if t.whole {
		from = "(select s.tableoid as o, s.ctid as c from " + t.only() + " as s where " + strings.Join(terms, " and ") + " limit 1) as x"
		where = "t.tableoid = x.o and t.ctid = x.c"
	}
	if s.form == formRemoveWhole {
		if from != "" {
			from = " using " + from
		}
		p.sql = "delete from " + t.only() + " as t" + from + " where " + where
		return p
	}
	p.setWhole(t, from, where)
	return p
}

func (p *prepared) setWhole(t *table, from, where string) {
	var sets []string
	for _, i := range t.settable("", true) {
		p.image = append(p.image, i)
		sets = append(sets, fmt.Sprintf("%s = $%d::text::%s", migration.Quote(t.columns[i].name), len(p.at)+len(p.image), t.columns[i].cast))
	}
	if from != "" {
		from = " from " + from
	}
	if len(sets) == 0 {
		p.sql = "select from " + t.only() + " as t" + strings.Replace(from, " from ", ", ", 1) + " where " + where
		return
	}
	p.sql = "update " + t.only() + " as t set " + strings.Join(sets, ", ") + from + " where " + where
}

// identical compares a column with a parameter so that only the same text is the same value: 1.0 is not 1.00 here, and
// json and point have no equality at all. Where the type has one that agrees, it is asked too, for the sake of indexes.
func (c column) identical(parameter int) string {
	name := "s." + migration.Quote(c.name)
	value := fmt.Sprintf("$%d::text::%s", parameter, c.cast)
	text := fmt.Sprintf(`%s::text collate "C" = (%s)::text collate "C"`, name, value)
	switch form := formOf(c); {
	case form == asIs && c.base != oidChar && !c.enum:
		return name + " = " + value
	case form == numeric || form == float:
		return name + " = " + value + " and " + text
	}
	return text
}
