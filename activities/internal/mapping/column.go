package mapping

import (
	"fmt"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/workflows/migration"
)

// columnPatterns are what an entry says about columns, read.
type columnPatterns struct {
	include, exclude []*columnPattern
	rename           map[string]string
	renamed          map[string]bool // names that some table has
}

type columnPattern struct {
	glob
	text    string
	matched bool
}

func (p *columnPatterns) read(columns migration.Columns) error {
	for _, list := range []struct {
		texts []string
		into  *[]*columnPattern
	}{{columns.Include, &p.include}, {columns.Exclude, &p.exclude}} {
		for _, text := range list.texts {
			g, err := parseGlob(text)
			if err != nil {
				return fmt.Errorf("columns %q: %w", text, err)
			}
			*list.into = append(*list.into, &columnPattern{glob: g, text: text})
		}
	}
	p.rename, p.renamed = columns.Rename, map[string]bool{}
	return nil
}

// keeps reports whether a column is meant. What is excluded is left out, whatever is included.
func (p *columnPatterns) keeps(name string) bool {
	included := anyMatches(p.include, name) || len(p.include) == 0
	excluded := anyMatches(p.exclude, name)
	return included && !excluded
}

// anyMatches asks every pattern, so that each knows whether it means anything.
func anyMatches(patterns []*columnPattern, name string) bool {
	found := false
	for _, p := range patterns {
		if _, ok := p.match(name); ok {
			p.matched, found = true, true
		}
	}
	return found
}

// columnChoice is what becomes of a column.
type columnChoice struct {
	kept bool
	name string // on the target
}

// chooseColumn is what an entry alone says about a column.
func (r *resolver) chooseColumn(e *entry, column catalog.Column) columnChoice {
	policy := r.spec.Names.Case
	if policy == migration.CaseDefault {
		policy = migration.CaseSource
	}
	c := columnChoice{kept: true, name: fold(column.Name, policy)}
	if column.Generated && !r.spec.Has(migration.TypeSchema) {
		c.name = column.Name // the target has it already, and nobody writes it
	}
	if e == nil || e.Columns.IsZero() {
		return c
	}
	c.kept = e.columns.keeps(column.Name)
	if to, ok := e.columns.rename[column.Name]; ok {
		e.columns.renamed[column.Name] = true
		c.name = to
	}
	return c
}

// columnsOf decides about the columns of a table. Those that it has from a selected parent, of which it is a partition or
// which it inherits from, become what they become there: the server changes them in the whole tree.
func (r *resolver) columnsOf(table *catalog.Table) []columnChoice {
	c := r.choose(table)
	if c.columns != nil {
		return c.columns
	}
	c.columns = make([]columnChoice, len(table.Columns))
	above, differs := r.above(table), ""
	for i, column := range table.Columns {
		own := r.chooseColumn(c.entry, column)
		if given, ok := above[column.Name]; ok {
			says := c.entry != nil && c.entry == c.own && !c.entry.Columns.IsZero()
			if says && given != own && differs == "" {
				differs = column.Name
			}
			own = given
		}
		c.columns[i] = own
	}
	if differs != "" {
		r.problem(KindColumns, table.Name.String(), "choose and rename columns in the entry of "+table.Parent.String(),
			"table %s has column %s from %s: it cannot be chosen or renamed in %s alone", table.Name, differs, table.Parent, table.Name)
	}
	return c.columns
}

// parentOf is the selected table that a table has columns from.
func (r *resolver) parentOf(table *catalog.Table) *catalog.Table {
	parent := r.byName[table.Parent]
	if parent == nil || !r.choose(parent).selected {
		return nil
	}
	return parent
}

// above are the decisions of the parent, by the columns' names.
func (r *resolver) above(table *catalog.Table) map[string]columnChoice {
	parent := r.parentOf(table)
	if parent == nil {
		return nil
	}
	c := r.choose(parent)
	if c.given == nil {
		c.given = map[string]columnChoice{}
		for i, chosen := range r.columnsOf(parent) {
			c.given[parent.Columns[i].Name] = chosen
		}
	}
	return c.given
}

// decidesColumn reports whether a table itself decides about a column, so that what is wrong with it is said there and not
// for each table below.
func (r *resolver) decidesColumn(t *Table, column string) bool {
	_, above := r.above(&t.Table)[column]
	return !above || slices.Contains(t.Key, column) && !slices.Contains(r.parentOf(&t.Table).Key, column)
}

// columns fills what is written on the target with the columns that are kept.
func (r *resolver) columns(t *Table, c *choice) {
	choices, above := r.columnsOf(&t.Table), r.above(&t.Table)
	t.Into, t.Computed = make([]Column, 0, len(t.Columns)), nil
	taken := make(map[string]string, len(t.Columns)) // name on the target → on the source
	for i, column := range t.Columns {
		chosen := choices[i]
		_, given := above[column.Name]
		if column.Generated && !r.spec.Has(migration.TypeSchema) {
			if !given && chosen.name != column.Name {
				r.problem(KindColumns, t.Name.String(), "rename it on the target",
					"column %s of %s is generated, and its table is not made here", column.Name, t.Name)
			}
			t.Computed = append(t.Computed, Column{Name: column.Name, Source: column.Name})
			continue
		}
		if !chosen.kept {
			if !given && column.NotNull && !column.HasDefault && !column.Generated && !slices.Contains(t.Key, column.Name) {
				r.problem(KindColumns, t.Name.String(), "take the column into the columns of the table again",
					"column %s of %s cannot be left out: it is NOT NULL and has no default", column.Name, t.Name)
			}
			continue
		}
		if as := (Column{Name: chosen.name, Source: column.Name}); column.Generated {
			t.Computed = append(t.Computed, as)
		} else {
			t.Into = append(t.Into, as)
		}
		if !given && chosen.name != column.Name {
			r.mustBeName(KindColumns, t.Name.String()+"."+column.Name, chosen.name)
		}
		if other, ok := taken[chosen.name]; ok && !given {
			r.problem(KindColumns, t.Name.String(), "give one of them another name",
				"columns %s and %s of %s would both be called %s", other, column.Name, t.Name, chosen.name)
		}
		taken[chosen.name] = column.Name
	}
	if len(t.Into) == 0 && len(t.DataColumns()) > 0 && r.top(&t.Table).Name == t.Name {
		r.problem(KindColumns, t.Name.String(), "include a column, or leave the table out", "no column of %s is left", t.Name)
	}
	if c.entry != nil && c.entry == c.own {
		r.leftOutRenames(t, c)
	}
}

// leftOutRenames: who renames a column wants it.
func (r *resolver) leftOutRenames(t *Table, c *choice) {
	for i, column := range t.Columns {
		if _, renamed := c.entry.columns.rename[column.Name]; renamed && !c.columns[i].kept {
			r.problem(KindColumns, t.Name.String(), "take the column in, or do not rename it",
				"column %s of %s is renamed and left out by %s", column.Name, t.Name, c.entry.key)
		}
	}
}

// oldRows: which values a change needs that the stream may leave out. It does not matter what the table's identity is now:
// who has to change it compares, and finds our own FULL when asked again.
func (r *resolver) oldRows(t *Table) {
	if !r.spec.Has(migration.TypeIncremental) || !t.Operations.Has(migration.OperationUpdate) {
		return
	}
	if t.Where == "" && t.DropIf == "" && !slices.ContainsFunc(t.Into, func(c Column) bool { return len(c.Reads) > 0 }) {
		return
	}
	needed := map[string]bool{}
	for _, column := range t.Into {
		for _, read := range column.Reads {
			needed[read] = true
		}
		if t.Filtered() && column.Set == "" {
			needed[column.Source] = true
		}
	}
	for _, text := range []string{t.Where, t.DropIf} {
		if text != "" {
			for _, read := range r.expression(text).Columns {
				needed[read] = true
			}
		}
	}
	t.NeedsOldRows = slices.ContainsFunc(t.DataColumns(), func(c catalog.Column) bool { return needed[c.Name] && c.Storage != "p" })
}
