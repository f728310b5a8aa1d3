package apply

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// bind makes sure that the table's columns follow the description that a change came with. A description that is new is
// compared with the plan first, and where it differs, with the target: a person may have made the same change there.
func (a *Applier) bind(ctx context.Context, t *table, relation *wal.Relation) error {
	if t.bound == relation {
		return nil
	}
	if t.bound != nil && reflect.DeepEqual(t.bound, relation) {
		t.bound = relation
		return nil
	}
	if err := a.walk.flushTable(ctx, t); err != nil {
		return err
	}
	if err := a.pipe.flush(ctx); err != nil {
		return err
	}
	if relation.Name != t.planned.Name {
		return t.drift(fmt.Errorf("the table was renamed to %s", relation.Name), "give it back its name on the source; then `pgdts resume`")
	}
	types, err := a.sourceTypes(ctx, t, relation)
	if err != nil {
		return err
	}
	if t.asPlanned(relation, types) {
		there, err := a.counterpart(ctx, t)
		if err != nil {
			return err
		}
		return a.layWith(ctx, t, relation, types, there)
	}
	return a.reshape(ctx, t, relation, types)
}

// layWith lays the table's columns out after a description, if the target has a place for all of them.
func (a *Applier) layWith(ctx context.Context, t *table, relation *wal.Relation, types []string, there *counterpart) error {
	if err := t.checkIdentity(relation); err != nil {
		return err
	}
	reading, err := a.read(ctx, t)
	if err != nil {
		return err
	}
	seen, err := a.seenTypes(ctx, t, relation, reading.reads, there)
	if err != nil {
		return err
	}
	if err := t.fit(relation, types, seen, &reading, there); err != nil {
		return err
	}
	t.bound = relation
	return nil
}

func (t *table) drift(cause error, hint string) error {
	return migration.NewFault(migration.FaultDrift, "apply to", t.planned.Name.String(), cause, hint)
}

// checkIdentity refuses an identity that tells less than the planned key. More, the full old row, is welcome.
func (t *table) checkIdentity(relation *wal.Relation) error {
	if relation.Identity == 'f' || t.planned.Published == "insert" || len(t.planned.Key) == 0 {
		return nil
	}
	var key []string
	for _, column := range relation.Columns {
		if column.Key {
			key = append(key, column.Name)
		}
	}
	if sameNames(key, t.planned.Key) {
		return nil
	}
	hint := "on the source: give the table back its key, or alter table " + t.planned.Name.SQL() + " replica identity full; then resume"
	if len(key) == 0 {
		return t.drift(fmt.Errorf("its replica identity changed from (%s) to nothing: the source no longer sends its key",
			strings.Join(t.planned.Key, ", ")), hint)
	}
	return t.drift(fmt.Errorf("its replica identity changed from (%s) to (%s)", strings.Join(t.planned.Key, ", "),
		strings.Join(key, ", ")), hint)
}

// fit lays the columns out: values in the order of the relation, computed columns behind those that take one.
func (t *table) fit(relation *wal.Relation, types, seen []string, r *reading, there *counterpart) error {
	l := layout{whole: there.whole, condition: r.condition, computed: r.condition != ""}
	left, leaves := make([]bool, len(relation.Columns)), false
	for i, published := range relation.Columns {
		to, err := t.destination(published, types[i], there)
		if err != nil {
			return err
		}
		g := given{name: published.Name, seen: seen[i]}
		switch {
		case to != nil:
			g.plain = *to
			to.from, to.equal = len(l.given), there.operators[to.name]
			l.columns = append(l.columns, *to)
		case slices.Contains(t.planned.Key, published.Name) || g.seen != "":
			g.plain = t.sourceType(published)
		default:
			left[i], leaves = true, true
			continue
		}
		g.sent = sentAs(published.TypeOID, g.plain.base)
		if slices.Contains(r.needs, g.name) {
			l.needs = append(l.needs, len(l.given))
		}
		l.given = append(l.given, g)
	}
	if !leaves {
		left = nil
	}
	if err := t.checkDropped(relation, r, there); err != nil {
		return err
	}
	if err := l.compute(t, r, there); err != nil {
		return err
	}
	t.left, t.layout, t.statements = left, l, map[shape]*prepared{}
	return t.lay(there)
}

// destination is the column of the target that takes a value as it is; nil where none does.
func (t *table) destination(published wal.RelationColumn, typ string, there *counterpart) (*column, error) {
	planned, name := t.plannedColumn(published.Name), published.Name
	switch into := t.direct(published.Name); {
	case into != nil:
		name = into.Name
	case planned != nil || t.chosen():
		return nil, nil
	}
	if slices.Contains(there.generated, name) {
		return nil, nil
	}
	found, exists := there.columns[name]
	if planned == nil { // it may be there under its name, but not if that is another column's
		exists = exists && !slices.ContainsFunc(t.planned.Into, func(c mapping.Column) bool { return c.Name == name })
	}
	return &found, t.checkColumn(published, typ, planned, found, exists)
}

// direct is where a column of the source is written as it is.
func (t *table) direct(name string) *mapping.Column {
	for i := range t.planned.Into {
		if c := &t.planned.Into[i]; c.Source == name && c.Set == "" {
			return c
		}
	}
	return nil
}

// chosen reports whether columns are left out on purpose. Then one that was added since is left out as well.
func (t *table) chosen() bool {
	return slices.ContainsFunc(t.planned.DataColumns(), func(planned catalog.Column) bool {
		return !slices.ContainsFunc(t.planned.Into, func(c mapping.Column) bool { return c.Source == planned.Name })
	})
}

// sourceType describes a column that is not written as it is, as far as folding needs it. Under a collation of its own
// different texts may be equal.
func (t *table) sourceType(published wal.RelationColumn) column {
	c := column{base: published.TypeOID}
	if planned := t.plannedColumn(published.Name); planned != nil && planned.TypeOID == published.TypeOID {
		c.base, c.enum, c.fuzzy = planned.BaseOID, planned.TypeKind == "e", planned.Collation != ""
	}
	return c
}

func (t *table) plannedColumn(name string) *catalog.Column {
	for i := range t.planned.Columns {
		if t.planned.Columns[i].Name == name {
			return &t.planned.Columns[i]
		}
	}
	return nil
}

// checkColumn takes a column that is as planned, or as it is on the target now.
func (t *table) checkColumn(published wal.RelationColumn, typ string, planned *catalog.Column, found column, exists bool) error {
	asPlanned := planned != nil && planned.TypeOID == published.TypeOID && (typ == "" || planned.Type == typ)
	name := published.Name
	if into := t.direct(name); into != nil {
		name = into.Name
	}
	switch {
	case exists && (asPlanned || found.typ == typ):
		return nil
	case planned == nil:
		return t.drift(fmt.Errorf("column %s %s added", migration.Quote(published.Name), typ),
			fmt.Sprintf("on the target: alter table %s add column %s %s, with the same default; then `pgdts resume`",
				t.target.SQL(), migration.Quote(name), typ))
	case !exists:
		return t.drift(fmt.Errorf("column %s is missing on the target", name), "add it there as it is on the source; then resume")
	}
	return t.drift(fmt.Errorf("column %s changed its type from %s to %s", published.Name, planned.Type, typ),
		fmt.Sprintf("make the same change on the target, for instance alter table %s alter column %s type %s; then resume",
			t.target.SQL(), migration.Quote(name), typ))
}

// checkDropped refuses a relation that lacks what the target still has, or what an expression reads.
func (t *table) checkDropped(relation *wal.Relation, r *reading, there *counterpart) error {
	for _, planned := range t.planned.DataColumns() {
		if slices.ContainsFunc(relation.Columns, func(c wal.RelationColumn) bool { return c.Name == planned.Name }) {
			continue
		}
		if into := t.direct(planned.Name); into != nil {
			if _, exists := there.columns[into.Name]; exists {
				return t.drift(fmt.Errorf("column %s was dropped or renamed", planned.Name),
					"make the same change on the target, for instance alter table "+t.target.SQL()+" drop column "+migration.Quote(into.Name)+"; then resume")
			}
		}
		if r.reads[planned.Name] {
			return t.drift(fmt.Errorf("column %s, which the definition reads, was dropped or renamed", planned.Name),
				"give it back its name on the source; or start the migration anew with another definition")
		}
	}
	return nil
}

// compute adds the columns that are expressions.
func (l *layout) compute(t *table, r *reading, there *counterpart) error {
	for _, into := range t.planned.Into {
		if into.Set == "" {
			continue
		}
		c, exists := there.columns[into.Name]
		if !exists {
			return t.drift(fmt.Errorf("column %s is missing on the target", into.Name), "add it there as it was; then resume")
		}
		c.from, c.set, c.stamp, c.equal = -1, r.sets[into.Name], into.Stamp, there.operators[into.Name]
		for _, name := range into.Reads {
			i := slices.IndexFunc(l.given, func(g given) bool { return g.name == name })
			if i < 0 {
				return t.drift(fmt.Errorf("the source does not send column %s, which column %s is computed from", name, into.Name),
					"take it into the publication again; then resume")
			}
			c.reads = append(c.reads, i)
		}
		l.computed = true
		l.columns = append(l.columns, c)
	}
	return nil
}

// lay finds the key among the columns and what follows from their types.
func (t *table) lay(there *counterpart) error {
	if len(t.planned.TargetKey) > 0 && there.operators == nil {
		return t.drift(fmt.Errorf("the target has no unique index on its key (%s)", strings.Join(t.planned.TargetKey, ", ")),
			"create it there, valid and not deferrable; then resume")
	}
	for _, name := range t.planned.Key {
		i := slices.IndexFunc(t.given, func(g given) bool { return g.name == name })
		if i < 0 {
			return t.drift(fmt.Errorf("column %s of its key is gone", name), "the table must be copied again")
		}
		norm := formOf(t.given[i].plain)
		t.key = append(t.key, i)
		t.norms = append(t.norms, norm)
		t.serial = t.serial || norm == unknown
		t.loose = t.loose || norm != asIs
	}
	for _, name := range t.planned.TargetKey {
		i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
		if i < 0 || slices.ContainsFunc(t.takes([]int{i}, false), func(from int) bool { return !slices.Contains(t.key, from) }) {
			return t.drift(fmt.Errorf("column %s of its key on the target does not follow from its key on the source", name),
				"the table must be copied again")
		}
		t.found = append(t.found, i)
		t.alwaysK = t.alwaysK || t.columns[i].always
	}
	t.sorted = slices.SortedFunc(slices.Values(t.found), func(a, b int) int { return strings.Compare(t.columns[a].name, t.columns[b].name) })
	for i := range t.columns {
		if t.columns[i].always && !slices.Contains(t.found, i) {
			t.fixed = append(t.fixed, i)
		}
	}
	return nil
}
