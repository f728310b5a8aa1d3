package mapping

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Meet compares the selected tables with those of the same name on the target that are not made by this migration, and
// marks them as existing. Where the definition ignores conflicts, columns that only one side has are left out. Without the
// schema, a partition that the target does not have goes into what it has of the partition's tree. Tables that are in the
// way of the schema, and rows in tables that are there, are for the precheck to say.
//
// It changes the tables in place. A second call says nothing more of columns that the first has left out.
func (s *Selection) Meet(ctx context.Context, target *pgx.Conn, spec migration.Spec, made map[migration.TableName]bool) ([]Problem, error) {
	there, err := readCounterparts(ctx, target, s.Tables)
	if err != nil {
		return nil, fmt.Errorf("read tables of the target: %w", err)
	}
	categories, err := readCategories(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("read types of the target: %w", err)
	}
	m := meeting{Selection: s, spec: spec, there: there, categories: categories, said: map[Problem]bool{}}
	for i := range s.Tables {
		if t := &s.Tables[i]; !spec.Has(migration.TypeSchema) {
			m.settle(t)
		}
	}
	for i := range s.Tables {
		t := &s.Tables[i]
		found, exists := there[t.Target]
		t.Existing = exists && found.isTable() && !made[t.Target]
		t.Keep = t.Existing && spec.Conflict == migration.ConflictIgnore
		if t.Existing {
			t.Computed = nil // its server computes what its own columns say
		}
		switch {
		case t.Existing && (t.Keep || !spec.Has(migration.TypeSchema)):
			m.compare(t, found)
		case !exists && !spec.Has(migration.TypeSchema):
			m.problem(KindConflict, t.Target, "add schema to types, or create the table on the target",
				"table %s is not on the target, and types has no schema", t.Target)
		case exists && !found.isTable() && !spec.Has(migration.TypeSchema):
			m.problem(KindConflict, t.Target, "give the table another name by rename",
				"%s is a %s on the target, not a table", t.Target, otherKinds[found.Kind])
		case !t.Existing:
			m.added(t)
		}
	}
	return m.problems, m.merges(ctx, target)
}

type meeting struct {
	*Selection
	spec  migration.Spec
	there map[migration.TableName]counterpart
	// categories are those of types that every server has, by oid.
	categories map[uint32]string
	problems   []Problem
	said       map[Problem]bool
}

func (m *meeting) problem(kind Kind, object migration.TableName, fix, format string, args ...any) {
	m.add(Problem{Kind: kind, Object: object.String(), Text: fmt.Sprintf(format, args...), Fix: fix})
}

// add says a thing once: several partitions may go into one table.
func (m *meeting) add(p Problem) {
	if !m.said[p] {
		m.said[p] = true
		m.problems = append(m.problems, p)
	}
}

// settle finds the nearest table above a partition that the target has.
func (m *meeting) settle(t *Table) {
	above, selected := *t, true
	for above.Partition && selected {
		if found, ok := m.there[above.Target]; ok && found.isTable() {
			t.Settled, t.Target = above.Name != t.Name, above.Target
			return
		}
		above, selected = m.named(above.Parent)
	}
	if found, ok := m.there[above.Target]; selected && ok && found.isTable() {
		t.Settled, t.Target = above.Name != t.Name, above.Target
	}
}

// compare looks at the columns and the key of a table that is there.
func (m *meeting) compare(t *Table, found counterpart) {
	var into []Column
	var lacking []string
	for _, column := range t.Into {
		is, ok := found.column(column.Name)
		switch {
		case ok && is.Generated:
		case ok:
			into = append(into, column)
			m.types(t, column, is)
		case column.Source == "":
			m.problem(KindTransform, t.Target, "add the column to the table on the target",
				"set %s of %s: neither the source nor the target has such a column", column.Name, t.Name)
		default:
			lacking = append(lacking, column.Name)
		}
	}
	t.Into = into
	m.differs(t, lacking, fmt.Sprintf("table %s of the target lacks columns of the source: %%s", t.Target),
		"add them on the target, or leave them out by columns.exclude")
	var beside []string
	for _, column := range found.Columns {
		written := slices.ContainsFunc(t.Into, func(c Column) bool { return c.Name == column.Name })
		switch {
		case written || column.Generated:
		case column.NotNull && !column.Default:
			m.problem(KindConflict, t.Target, fmt.Sprintf("alter table %s alter column %s drop not null; -- on the target, or give it a default",
				t.Target.SQL(), migration.Quote(column.Name)),
				"column %s of %s on the target is NOT NULL, has no default, and gets no value from the source", column.Name, t.Target)
		case t.Keep:
			beside = append(beside, column.Name)
		}
	}
	if t.Keep {
		m.differs(t, beside, fmt.Sprintf("table %s of the target has columns that the source does not fill: %%s", t.Target), "accept it, or set them in a transformation")
	}
	m.key(t, found)
}

// types: the copy writes a value as a text, which every text type takes. Of what is read as something else a person must
// know that every value can be.
func (m *meeting) types(t *Table, column Column, is counterColumn) {
	from, ok := t.Column(column.Source)
	category := m.categories[from.TypeOID]
	if !ok || column.Set != "" || category == "" || category == is.Category || is.Category == "S" {
		return
	}
	m.add(Problem{
		Kind: KindConflict, Object: t.Target.String(), Alert: true,
		Text: fmt.Sprintf("column %s of %s is of type %s on the source, and %s of type %s on the target: a value that cannot be read as that stops the migration",
			column.Source, t.Name, from.Type, column.Name, is.Type),
		Fix: "give it the same type, or convert it by set in a transformation",
	})
}

// differs says which columns one side lacks. A person may accept that only common columns are migrated if conflicts are
// ignored.
func (m *meeting) differs(t *Table, columns []string, format, fix string) {
	if len(columns) > 0 {
		m.add(Problem{
			Kind: KindConflict, Object: t.Target.String(), Text: fmt.Sprintf(format, strings.Join(columns, ", ")), Fix: fix, Alert: t.Keep,
		})
	}
}

// key asks whether rows are found by an index of the target. For a merged table, columns that a transformation adds count as
// far as such an index has them.
func (m *meeting) key(t *Table, found counterpart) {
	if t.Kind == "p" {
		return
	}
	for _, name := range t.TargetKey {
		if !slices.ContainsFunc(t.Into, func(c Column) bool { return c.Name == name }) && !slices.Contains(constants(*t), name) {
			m.problem(KindConflict, t.Target, "add the column to the table on the target",
				"column %s of the key of %s is not on the target, or is generated there", name, t.Name)
			return
		}
	}
	streamed := m.spec.Has(migration.TypeIncremental) && t.Published(t.WithoutKey) == catalog.PublishedAll
	switch {
	case len(t.Key) == 0 && t.Keep:
		m.problem(KindConflict, t.Target, "give the table a primary key on both sides, or say conflict: report",
			"table %s has no key, and conflict is ignore: no row tells whether the target has it already", t.Name)
	case len(t.TargetKey) == 0 || !t.Keep && !t.Merged && !streamed:
	case found.finds(t.TargetKey):
	case t.Merged && m.narrow(t, found):
	default:
		m.problem(KindConflict, t.Target,
			fmt.Sprintf("create unique index on %s (%s); -- on the target", t.Target.SQL(), migration.QuoteList(t.TargetKey)),
			"the target has no unique index by which rows of %s are found: on exactly (%s), valid, immediate and not partial",
			t.Target, strings.Join(t.TargetKey, ", "))
	}
}

// narrow leaves out of the key what no index has.
func (m *meeting) narrow(t *Table, found counterpart) bool {
	own := t.TargetKey[:len(t.Key)]
	for _, columns := range found.Keys {
		if len(columns) < len(own) || slices.ContainsFunc(own, func(c string) bool { return !slices.Contains(columns, c) }) {
			continue
		}
		if slices.ContainsFunc(columns, func(c string) bool { return !slices.Contains(t.TargetKey, c) }) {
			continue
		}
		t.TargetKey = slices.DeleteFunc(slices.Clone(t.TargetKey), func(c string) bool { return !slices.Contains(columns, c) })
		return true
	}
	return false
}

// added: a table that is made as the source has it lacks what only a transformation knows.
func (m *meeting) added(t *Table) {
	for _, column := range t.Into {
		if column.Source == "" {
			m.problem(KindTransform, t.Target, "add it to the source, or make the table on the target first",
				"set %s of %s: neither the source nor the table that is made after it has such a column", column.Name, t.Name)
		}
	}
}

// merges looks once more at what the keys have become, and lets the target say whether constants are different ones.
func (m *meeting) merges(ctx context.Context, target *pgx.Conn) error {
	groups, order := groupByTarget(m.Tables)
	for _, name := range order {
		group := slices.DeleteFunc(slices.Clone(groups[name]), func(i int) bool { return !m.Tables[i].Merged })
		if len(group) < 2 {
			continue
		}
		for _, p := range mergeProblems(*m.Selection, name, group) {
			m.add(p)
		}
		columns := m.discriminators(group)
		switch {
		case m.apart(group):
			if err := m.evaluate(ctx, target, name, group, columns); err != nil {
				return err
			}
		case slices.ContainsFunc(group, func(i int) bool { return len(m.Tables[i].TargetKey) > len(m.Tables[i].Key) }):
			m.problem(KindMerge, name, "create a unique index on the columns of the sources' key alone, or set the others to another constant for each",
				"rows of %s are found by (%s), which is the same for several sources", name, strings.Join(columns, ", "))
		}
	}
	return nil
}

// evaluate compares the constants' values: two texts may mean one.
func (m *meeting) evaluate(ctx context.Context, target *pgx.Conn, name migration.TableName, group []int, columns []string) error {
	values := map[int]string{}
	for _, i := range group {
		var texts []string
		for _, column := range columns {
			c, _ := m.Tables[i].into(column)
			cast := ""
			if is, ok := m.there[name].column(column); ok {
				cast = "::" + is.Type
			}
			texts = append(texts, "coalesce(("+c.Set+"\n)"+cast+"::text, '')")
		}
		value, err := ask[[]string](ctx, target, "select array["+strings.Join(texts, ", ")+"]", pgx.RowTo, pgx.QueryExecModeSimpleProtocol)
		var refused *pgconn.PgError
		switch {
		case errors.As(err, &refused):
			m.problem(KindMerge, name, "correct it in the definition", "set %s of %s: the target says: %s",
				strings.Join(columns, ", "), m.Tables[i].Name, refused.Message)
			return nil
		case err != nil:
			return err
		}
		values[i] = strings.Join(value[0], "\x00")
	}
	if !m.distinct(group, func(i int) string { return values[i] }) {
		m.problem(KindMerge, name, "set it to another constant for each of the sources",
			"tables %s become %s, and (%s) has the same value for several of them", strings.Join(namesOf(m.Tables, group), " and "), name, strings.Join(columns, ", "))
	}
	return nil
}
