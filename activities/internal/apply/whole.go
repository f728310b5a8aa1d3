package apply

import (
	"fmt"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

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
	for i := range t.columns {
		c := &t.columns[i]
		if isAbsent(s.absent, c.from) {
			terms = append(terms, fmt.Sprintf("s.%s is null", migration.Quote(c.name)))
			continue
		}
		p.at = append(p.at, c.from)
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
		p.image = append(p.image, t.columns[i].from)
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
func (c *column) identical(parameter int) string {
	name := "s." + migration.Quote(c.name)
	value := fmt.Sprintf("$%d::text::%s", parameter, c.cast)
	text := fmt.Sprintf(`%s::text collate "C" = (%s)::text collate "C"`, name, value)
	switch form := formOf(*c); {
	case form == asIs && c.base != oidChar && !c.enum:
		return name + " = " + value
	case form == numeric || form == float:
		return name + " = " + value + " and " + text
	}
	return text
}

// buildComputedWhole finds one row that is equal in all columns to what the old row came to, if the filter wanted that.
func (t *table) buildComputedWhole(f form) *prepared {
	compared, same := t.comparison()
	filtered := t.condition != ""
	p := &prepared{scalars: true, at: t.takes(compared, filtered)}
	var set []int
	var computed string
	if f == formChangeWhole {
		set = t.settable("", true)
	}
	if f != formRemoveWhole {
		p.image = t.takes(set, filtered)
		computed = t.evaluate(after, set, filtered)
	}
	from := p.single() + t.evaluate(before, compared, filtered) + computed +
		" cross join lateral (select s.tableoid as o, s.ctid as c from " + t.only() + " as s where " + same + " limit 1) as y"
	where := "t.tableoid = y.o and t.ctid = y.c"
	if filtered {
		where += " and k.keep is true"
	}
	if f == formLeaveWhole {
		where += " and e.keep is not true"
	}
	if f != formChangeWhole {
		p.sql = "delete from " + t.only() + " as t using " + from + " where " + where
		return p
	}
	where += t.wanted(" and ")
	var sets []string
	for _, i := range set {
		sets = append(sets, fmt.Sprintf("%s = %s", migration.Quote(t.columns[i].name), t.value(after, i)))
	}
	if len(sets) == 0 {
		p.sql = "select from " + t.only() + " as t, " + from + " where " + where
		return p
	}
	p.sql = "update " + t.only() + " as t set " + strings.Join(sets, ", ") + " from " + from + " where " + where
	return p
}

// comparison compares all columns of a row s with what the old row came to, but for those that hold the time.
func (t *table) comparison() (compared []int, same string) {
	terms := []string{"true"}
	for i := range t.columns {
		c := &t.columns[i]
		if c.stamp {
			continue
		}
		compared = append(compared, i)
		terms = append(terms, fmt.Sprintf(`s.%s::text collate "C" is not distinct from (%s)::text collate "C"`,
			migration.Quote(c.name), t.value(before, i)))
	}
	return compared, strings.Join(terms, " and ")
}

// single is the FROM item that makes one row of the parameters.
func (p *prepared) single() string {
	var values []string
	for _, i := range p.at {
		values = append(values, fmt.Sprintf("$%d::text as o%d", len(values)+1, i))
	}
	for _, i := range p.image {
		values = append(values, fmt.Sprintf("$%d::text as n%d", len(values)+1, i))
	}
	return "(select " + strings.Join(values, ", ") + ") as x"
}
