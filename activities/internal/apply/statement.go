package apply

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

// shape is what statements of one table have in common.
type shape struct {
	form   form
	absent string // values that are not known, or for rows without key those that are NULL in the old row
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

	// What follows makes room for the statements above; its rows are not counted.
	formLeave      // delete what the filter no longer wants
	formLeaveWhole // the same for a row that is equal in all columns
	formMakeRoom   // delete what has the new key of a row that is there
	formUnmark     // forget that the copy kept a row of this key
	formUnmarkNew  // the same for the new key
)

func (f form) counts() bool { return f < formLeave }

// prepared is a statement and which values it takes: first of the rows that are looked for, then of the new ones.
type prepared struct {
	sql     string
	name    string // "" until it is prepared in this session
	at      []int
	image   []int
	sent    []uint32 // by value: its type in an array
	scalars bool     // takes values of one row as texts, instead of arrays
}

// forms are the statements of an action, in order; the counts of those that count are added up.
func (t *table) forms(a action) []form {
	main := t.mainForms(a.kind)
	if !t.converges {
		return main
	}
	var forms []form
	switch {
	case t.keyless() && a.kind == change && t.condition != "":
		forms = append(forms, formLeaveWhole)
	case t.keyless():
	case a.kind != remove && t.condition != "":
		forms = append(forms, formLeave)
	}
	if t.marked && (a.kind == remove || a.absent == "") {
		forms = append(forms, formUnmark)
	}
	if t.marked && a.kind == move {
		forms = append(forms, formUnmarkNew)
	}
	if a.kind == move {
		forms = append(forms, formMakeRoom)
	}
	return append(forms, main...)
}

func (t *table) mainForms(k kind) []form {
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
		return t.buildRemove(nil, "")
	case formRemoveFixed:
		return t.buildRemove(t.fixed, t.wanted(" and "))
	case formLeave:
		return t.buildRemove(nil, " and e.keep is not true")
	case formMakeRoom:
		return t.buildMakeRoom()
	case formUnmark, formUnmarkNew:
		return t.buildUnmark(s.form == formUnmarkNew)
	case formChange:
		return t.buildChange(s, t.settable(s.absent, t.loose))
	case formMove:
		return t.buildChange(s, t.settable(s.absent, true))
	case formReplace:
		return t.buildReplace(s, nil)
	case formReplaceFixed:
		return t.buildReplace(s, t.fixed)
	case formRemoveWhole, formChangeWhole, formLeaveWhole:
		if t.computed {
			return t.buildComputedWhole(s.form)
		}
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

// missing is how many of the values that a column comes from a mask takes away.
func (c *column) missing(absent string) (n int) {
	if c.set == "" {
		if isAbsent(absent, c.from) {
			n++
		}
		return n
	}
	for _, i := range c.reads {
		if isAbsent(absent, i) {
			n++
		}
	}
	return n
}

// known are the columns that a mask leaves.
func (t *table) known(absent string) []int {
	columns := make([]int, 0, len(t.columns))
	for i := range t.columns {
		if t.columns[i].missing(absent) == 0 {
			columns = append(columns, i)
		}
	}
	return columns
}

// settable are the columns of an UPDATE's SET.
func (t *table) settable(absent string, withKey bool) []int {
	return slices.DeleteFunc(t.known(absent), func(i int) bool {
		return t.columns[i].always || !withKey && slices.Contains(t.found, i)
	})
}

// takes are the values that columns come from, and the filter's.
func (t *table) takes(columns []int, filtered bool) []int {
	var values []int
	add := func(i int) {
		if !slices.Contains(values, i) {
			values = append(values, i)
		}
	}
	for _, i := range columns {
		if c := &t.columns[i]; c.set == "" {
			add(c.from)
		} else {
			for _, read := range c.reads {
				add(read)
			}
		}
	}
	if filtered {
		for _, read := range t.needs {
			add(read)
		}
	}
	return values
}

// arrays is the FROM item that makes rows of the parameters: columns o<i> to find rows, n<i> for new values. As items of a
// select list they come row by row; as a function of several arrays the server would store each of them first.
func (t *table) arrays(p *prepared) string {
	var items []string
	add := func(prefix string, columns []int) {
		for _, i := range columns {
			p.sent = append(p.sent, t.given[i].sent)
			items = append(items, fmt.Sprintf("unnest($%d) as %s%d", len(items)+1, prefix, i))
		}
	}
	add("o", p.at)
	add("n", p.image)
	return "(select " + strings.Join(items, ", ") + ") as x"
}

// matches compares the target's key with that of a side, by the operators of its index.
func (t *table) matches(alias string, s side) string {
	var terms []string
	for _, i := range t.found {
		c := &t.columns[i]
		terms = append(terms, fmt.Sprintf("%s.%s %s %s", alias, migration.Quote(c.name), c.equal, t.value(s, i)))
	}
	return strings.Join(terms, " and ")
}

// differs asks whether any of the fixed columns, if there are any, would have to change.
func (t *table) differs(fixed []int) string {
	var terms []string
	for _, i := range fixed {
		terms = append(terms, fmt.Sprintf("t.%s <> %s", migration.Quote(t.columns[i].name), t.value(after, i)))
	}
	if len(terms) == 0 {
		return ""
	}
	return " and (" + strings.Join(terms, " or ") + ")"
}

// wanted is the filter of the new row, which evaluate has computed, behind a word that joins it; "" where there is none.
func (t *table) wanted(join string) string {
	if t.condition == "" {
		return ""
	}
	return join + "e.keep is true"
}

// buildRemove deletes by key; the new row matters where it has fixed columns, or for the filter.
func (t *table) buildRemove(fixed []int, filter string) *prepared {
	p := &prepared{at: t.key, image: t.takes(fixed, filter != "")}
	p.sql = fmt.Sprintf("delete from %s as t using %s%s%s where %s%s%s", t.only(), t.arrays(p), t.evaluate(before, t.found, false),
		t.evaluate(after, fixed, filter != ""), t.matches("t", before), t.differs(fixed), filter)
	return p
}

// buildMakeRoom deletes what is left over under a row's new key.
func (t *table) buildMakeRoom() *prepared {
	p := &prepared{at: t.key, image: t.takes(t.found, t.condition != "")}
	p.sql = fmt.Sprintf("delete from %s as t using %s%s%s where %s and not (%s) and %s", t.only(), t.arrays(p),
		t.evaluate(before, t.found, false), t.evaluate(after, t.found, t.condition != ""), t.matches("t", after), t.matches("t", before), t.goes())
	return p
}

// goes asks whether a row leaves nothing under its new key: it is there to take its place, or the filter does not want it.
func (t *table) goes() string {
	there := fmt.Sprintf("exists (select from %s as s where %s)", t.only(), t.matches("s", before))
	if t.condition == "" {
		return there
	}
	return "(e.keep is not true or " + there + ")"
}

// buildChange leaves rows alone whose fixed columns would have to change, rows that the filter does not want, and, of
// rows that the copy kept, those of which not every value is known.
func (t *table) buildChange(s shape, set []int) *prepared {
	p := &prepared{at: t.key, image: t.takes(append(slices.Clone(set), t.fixed...), t.condition != "")}
	where := t.matches("t", before)
	for _, i := range t.fixed {
		where += fmt.Sprintf(" and t.%s = %s", migration.Quote(t.columns[i].name), t.value(after, i))
	}
	where += t.wanted(" and ")
	if t.marked && s.absent != "" {
		where += " and not exists (" + t.marks(before) + ")"
	}
	from := t.arrays(p) + t.evaluate(before, t.found, false) + t.evaluate(after, append(slices.Clone(set), t.fixed...), t.condition != "")
	var sets []string
	for _, i := range set {
		sets = append(sets, fmt.Sprintf("%s = %s", migration.Quote(t.columns[i].name), t.value(after, i)))
	}
	if len(sets) == 0 { // nothing but the key: only the count is of interest
		p.sql = fmt.Sprintf("select from %s as t, %s where %s", t.only(), from, where)
		return p
	}
	p.sql = fmt.Sprintf("update %s as t set %s from %s where %s", t.only(), strings.Join(sets, ", "), from, where)
	return p
}

// buildReplace deletes and inserts in one statement; what is absent comes from the deleted row.
func (t *table) buildReplace(s shape, fixed []int) *prepared {
	known := t.known(s.absent)
	p := &prepared{at: t.key, image: t.takes(known, t.condition != "")}
	var names, values, returned []string
	for i := range t.columns {
		c := &t.columns[i]
		names = append(names, migration.Quote(c.name))
		result := fmt.Sprintf("n%d", c.from)
		if c.set != "" {
			result = fmt.Sprintf("s%d", i)
		}
		switch {
		case !slices.Contains(known, i):
			returned = append(returned, fmt.Sprintf("t.%s as %s", migration.Quote(c.name), result))
			values = append(values, "d."+result)
		case c.set != "":
			returned, values = append(returned, "e."+result), append(values, "d."+result)
		default:
			returned, values = append(returned, "x."+result), append(values, fmt.Sprintf("d.%s::%s", result, c.cast))
		}
	}
	where := t.matches("t", before) + t.differs(fixed) + t.wanted(" and ")
	if t.marked && s.absent != "" {
		where += " and not exists (" + t.marks(before) + ")"
	}
	p.sql = fmt.Sprintf("with d as (delete from %s as t using %s%s%s where %s returning %s) "+
		"insert into %s (%s) overriding system value select %s from d",
		t.only(), t.arrays(p), t.evaluate(before, t.found, false), t.evaluate(after, known, t.condition != ""), where, strings.Join(returned, ", "),
		t.target.SQL(), strings.Join(names, ", "), strings.Join(values, ", "))
	return p
}

func (t *table) buildInsert(onConflict string) *prepared {
	all := t.known("")
	p := &prepared{image: t.takes(all, t.condition != "")}
	if len(t.columns) == 0 && t.condition == "" {
		p.sql = "insert into " + t.target.SQL() + " default values" + onConflict
		return p
	}
	var names, values []string
	for i := range t.columns {
		names = append(names, migration.Quote(t.columns[i].name))
		values = append(values, t.value(after, i))
	}
	overriding := ""
	if t.alwaysK || len(t.fixed) > 0 {
		overriding = "overriding system value "
	}
	from := "(select) as x"
	if len(p.image) > 0 {
		from = t.arrays(p)
	}
	p.sql = fmt.Sprintf("insert into %s (%s) %sselect %s from %s", t.target.SQL(), strings.Join(names, ", "), overriding,
		strings.Join(values, ", "), from) + t.evaluate(after, all, t.condition != "") + t.wanted(" where ") + onConflict
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
	for _, i := range t.found {
		names = append(names, t.columns[i].name)
	}
	return migration.QuoteList(names)
}
