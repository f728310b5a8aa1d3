package compare

import (
	"strings"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// rows is what one server is asked about: some rows of a table, called r, and what of them is compared.
type rows struct {
	title  string // the table's name there
	from   string // from … where …
	values []value
	key    []value // where rows are looked up one by one
}

// value is an expression over r, and the oid of the built-in type below its type, or 0.
type value struct {
	sql  string
	base uint32
}

// shape is what is known of a table on the target, where that is not what the source's catalog says.
type shape struct {
	partitioned bool // its rows are in partitions
	indexed     bool // an index begins with the first column of the key
	columns     map[string]targetColumn
}

type targetColumn struct {
	typ   string // with its modifier
	base  uint32
	equal string // the operator by which a key is found
	known bool   // the source has a type of this name
}

// sides are the two questions about a table.
func sides(t mapping.Table, s shape) (source, target rows) {
	if asItIs(t) {
		whole := rows{title: t.Name.String(), from: "from only " + t.Name.SQL() + " r " + t.Condition, values: wholeValues(t)}
		source, target = whole, whole
	} else {
		source, target = sourceRows(t, s), targetRows(t, s)
	}
	for _, name := range t.TargetKey {
		column, _ := into(t, name)
		source.key = append(source.key, s.taken(t, column))
		target.key = append(target.key, s.given(t, column))
	}
	return source, target
}

// wholeValues are all columns of a table that must agree.
func wholeValues(t mapping.Table) []value {
	var values []value
	for _, column := range t.Columns {
		if !inexact(column) {
			values = append(values, value{"r." + migration.Quote(column.Name), column.BaseOID})
		}
	}
	return values
}

// sourceRows are what the copy reads: the rows that are migrated, with their values as they are written.
func sourceRows(t mapping.Table, s shape) rows {
	r := rows{title: t.Name.String(), from: filtered("only "+t.Name.SQL(), t.Condition, t.RowCondition())}
	for _, column := range t.Into {
		if !column.Stamp {
			r.values = append(r.values, s.taken(t, column))
		}
	}
	for _, column := range computed(t) {
		from, _ := t.Column(column.Source)
		r.values = append(r.values, value{"r." + migration.Quote(column.Source), from.BaseOID})
	}
	return r
}

// targetRows are the rows that came from this table of the source.
func targetRows(t mapping.Table, s shape) rows {
	relation := t.Target.SQL()
	if !s.partitioned {
		relation = "only " + relation
	}
	var own []string
	if columns, apart := discriminator(t); apart {
		for _, column := range columns {
			constant := "(" + column.Set + "\n)"
			if there, described := s.columns[column.Name]; described {
				constant += "::" + there.typ
			}
			own = append(own, "r."+migration.Quote(column.Name)+" "+s.equal(column.Name)+" "+constant)
		}
	}
	r := rows{title: t.Target.String(), from: filtered(relation, t.Condition, strings.Join(own, " and "))}
	for _, column := range t.Into {
		if !column.Stamp {
			r.values = append(r.values, s.given(t, column))
		}
	}
	for _, column := range computed(t) {
		from, _ := t.Column(column.Source)
		r.values = append(r.values, value{"r." + migration.Quote(column.Name), from.BaseOID})
	}
	return r
}

// filtered adds a condition to an extension's, which is a clause of its own.
func filtered(relation, clause, condition string) string {
	from := "from " + relation + " r " + clause
	switch {
	case condition == "":
		return from
	case clause == "":
		return from + "where " + condition
	}
	return "from (select * " + from + ") r where " + condition
}

// taken is a column's value on the source, as it is written on the target. A value of another type goes through its text,
// as COPY does it: a cast may say it differently.
func (s shape) taken(t mapping.Table, column mapping.Column) value {
	own, _ := t.Column(column.Source)
	there := s.columns[column.Name]
	switch {
	case column.Set != "" && there.known:
		return value{"((" + column.Set + "\n)::" + there.typ + ")", there.base}
	case column.Set != "" && column.Source != "" && !t.Existing:
		return value{"((" + column.Set + "\n)::" + own.Type + ")", own.BaseOID}
	case column.Set != "":
		return value{"(" + column.Set + "\n)", 0}
	}
	name := "r." + migration.Quote(column.Source)
	if there.known && there.typ != own.Type {
		return value{"(case when " + name + " is distinct from null then format('%s', " + name + ")::" + there.typ + " end)", there.base}
	}
	return value{name, own.BaseOID}
}

// given is a column's value on the target.
func (s shape) given(t mapping.Table, column mapping.Column) value {
	name := "r." + migration.Quote(column.Name)
	if there, described := s.columns[column.Name]; described {
		return value{name, there.base}
	}
	own, _ := t.Column(column.Source)
	return value{name, own.BaseOID}
}

// equal is the operator by which the target finds a value of a column.
func (s shape) equal(column string) string {
	if there := s.columns[column]; there.equal != "" {
		return there.equal
	}
	return "="
}
