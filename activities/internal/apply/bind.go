package apply

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/catalog"
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
		return t.drift(fmt.Errorf("it is called %s now", relation.Name), "give it back its name on the source")
	}
	types, err := a.sourceTypes(ctx, t, relation)
	if err != nil {
		return err
	}
	there, err := describe(ctx, a.conn, t.target, t.planned.Key)
	if errors.Is(err, errNoTarget) {
		return t.drift(err, "create it there again as it was")
	}
	if err != nil {
		return err
	}
	if err := t.checkIdentity(relation); err != nil {
		return err
	}
	if err := t.fit(relation, types, there); err != nil {
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
		return t.drift(errors.New("the source no longer sends its key"), hint)
	}
	return t.drift(fmt.Errorf("its replica identity is now (%s), was (%s)", strings.Join(key, ", "),
		strings.Join(t.planned.Key, ", ")), hint)
}

// fit lays the columns out in the order of the relation.
func (t *table) fit(relation *wal.Relation, types []string, there *counterpart) error {
	columns := make([]column, 0, len(relation.Columns))
	var left []bool
	for i, published := range relation.Columns {
		if slices.Contains(there.generated, published.Name) {
			if left == nil {
				left = make([]bool, len(relation.Columns))
			}
			left[i] = true
			continue
		}
		planned := t.plannedColumn(published.Name)
		found, exists := there.columns[published.Name]
		if err := t.checkColumn(published, types[i], planned, found, exists); err != nil {
			return err
		}
		found.equal = there.operators[found.name]
		columns = append(columns, found)
	}
	for _, planned := range t.planned.DataColumns() {
		_, exists := there.columns[planned.Name]
		sent := slices.ContainsFunc(relation.Columns, func(c wal.RelationColumn) bool { return c.Name == planned.Name })
		if !sent && exists {
			return t.drift(fmt.Errorf("column %s was dropped or renamed", planned.Name),
				"make the same change on the target, for instance alter table "+t.target.SQL()+" drop column "+migration.Quote(planned.Name)+"; then resume")
		}
	}
	t.columns, t.left, t.whole = columns, left, there.whole
	t.statements = map[shape]*prepared{}
	return t.lay(there)
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
	switch {
	case exists && (asPlanned || found.typ == typ):
		return nil
	case planned == nil:
		return t.drift(fmt.Errorf("column %s (%s) was added", published.Name, typ),
			fmt.Sprintf("on the target: alter table %s add column %s %s, with the same default; then resume",
				t.target.SQL(), migration.Quote(published.Name), typ))
	case !exists:
		return t.drift(fmt.Errorf("column %s is missing on the target", published.Name), "add it there as it is on the source; then resume")
	}
	return t.drift(fmt.Errorf("column %s changed its type from %s to %s", published.Name, planned.Type, typ),
		fmt.Sprintf("make the same change on the target, for instance alter table %s alter column %s type %s; then resume",
			t.target.SQL(), migration.Quote(published.Name), typ))
}

// lay finds the key among the columns and what follows from their types.
func (t *table) lay(there *counterpart) error {
	whole := t.whole
	t.layout = layout{whole: whole}
	if len(t.planned.Key) > 0 && there.operators == nil {
		return t.drift(fmt.Errorf("the target has no unique index on its key (%s)", strings.Join(t.planned.Key, ", ")),
			"create it there, valid and not deferrable; then resume")
	}
	for _, name := range t.planned.Key {
		i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
		if i < 0 {
			return t.drift(fmt.Errorf("column %s of its key is gone", name), "the table must be copied again")
		}
		norm := formOf(t.columns[i])
		t.key = append(t.key, i)
		t.norms = append(t.norms, norm)
		t.serial = t.serial || norm == unknown
		t.loose = t.loose || norm != asIs
		t.alwaysK = t.alwaysK || t.columns[i].always
	}
	for i, c := range t.columns {
		if c.always && !slices.Contains(t.key, i) {
			t.fixed = append(t.fixed, i)
		}
	}
	return nil
}
