package apply

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// alteration is one thing about a table that is no longer as it was planned.
type alteration struct {
	text   string   // what happened on the source
	remedy string   // what a person runs on the target; "" = nothing, it has followed already
	safe   []string // what may be run there without asking, nil = ask
	moved  bool     // a column of this name means another one now, which no name on the target can show
}

// reshaped is a table whose new shape was taken over. It is written into the ledger with the changes that follow it, and
// taken back when they are rolled back.
type reshaped struct {
	table   *table
	before  mapping.Table
	record  ledger.Statement
	settled bool // of an earlier part of the open transaction
}

// reshape lays the table out after a description that is not the planned one. The person, or the definition, may have let
// the target follow; else the fault says all that has changed, before anything of the new shape is applied.
func (a *Applier) reshape(ctx context.Context, t *table, relation *wal.Relation, types []string) error {
	before := t.planned.Table
	now, known, err := a.sourceTable(ctx, t, relation, types)
	if err != nil {
		return err
	}
	if known {
		reading, err := a.read(ctx, t)
		if err != nil {
			return err
		}
		if err := t.checkRead(now, reading.reads); err != nil {
			return err
		}
		t.planned.Table = evolve(before, now, t.chosen())
	}
	err = a.layOut(ctx, t, relation, types, before, now, known)
	if err != nil {
		t.planned.Table = before
		return err
	}
	if reflect.DeepEqual(before, t.planned.Table) {
		return nil
	}
	record, err := a.config.Lane.Reshape(t.relid, t.planned.Table)
	a.reshaped = append(a.reshaped, reshaped{table: t, before: before, record: record})
	return err
}

func (a *Applier) layOut(ctx context.Context, t *table, relation *wal.Relation, types []string, before mapping.Table, now catalog.Table, known bool) error {
	there, err := a.counterpart(ctx, t)
	if err != nil {
		return err
	}
	alterations, err := a.alterations(ctx, t, relation, types, before, now, known, there)
	if err != nil {
		return err
	}
	if err := t.checkIdentity(relation); err != nil {
		return err
	}
	if err := t.unmoved(alterations, relation, there); err != nil {
		return err
	}
	if !slices.ContainsFunc(alterations, func(each alteration) bool { return each.remedy != "" }) {
		return a.layWith(ctx, t, relation, types, there)
	}
	if statements := safe(alterations); a.config.Spec.DDL == migration.DDLApplySafe && statements != nil {
		if err := a.follow(ctx, t, statements); err != nil {
			return err
		}
		if there, err = a.counterpart(ctx, t); err != nil {
			return err
		}
		return a.layWith(ctx, t, relation, types, there)
	}
	return t.altered(alterations)
}

func (a *Applier) counterpart(ctx context.Context, t *table) (*counterpart, error) {
	there, err := describe(ctx, a.conn, t.target, t.planned.TargetKey)
	if errors.Is(err, errNoTarget) {
		return nil, t.drift(fmt.Errorf("%w as %s", err, t.target), "create it there again as it was; then resume")
	}
	return there, err
}

// altered names all that has changed on the source, with what lets the target follow.
func (t *table) altered(alterations []alteration) error {
	var texts, remedies []string
	for _, each := range alterations {
		texts = append(texts, each.text)
		if each.remedy != "" {
			remedies = append(remedies, each.remedy)
		}
	}
	return t.drift(errors.New(strings.Join(texts, "; ")),
		"nothing of the new shape is applied yet; on the target run: "+strings.Join(remedies, "; ")+"; then `pgdts resume`")
}

// asPlanned reports whether a description has the planned columns, in their order and with their types, and the key.
func (t *table) asPlanned(relation *wal.Relation, types []string) bool {
	planned := t.planned.DataColumns()
	if len(planned) != len(relation.Columns) || relation.Identity == 'f' && t.planned.Identity != "f" {
		return false
	}
	for i, column := range relation.Columns {
		p := planned[i]
		if p.Name != column.Name || p.TypeOID != column.TypeOID || types[i] != "" && types[i] != p.Type {
			return false
		}
	}
	return true
}

// sourceTable reads the table's columns with their numbers, by which a renamed column is told from another one. It is not
// known when the source has changed again since: then only what the description says can be gone by. Partitions that were
// made later have numbers of their own.
func (a *Applier) sourceTable(ctx context.Context, t *table, relation *wal.Relation, types []string) (now catalog.Table, known bool, err error) {
	if t.planned.OID != t.relid {
		return now, false, nil
	}
	err = a.onSource(ctx, "read", relation.Name.String(), func(conn *pgx.Conn) error {
		now, err = catalog.ReadTable(ctx, conn, relation.ID)
		if errors.Is(err, catalog.ErrNoTable) {
			return nil
		}
		return err
	})
	columns := now.DataColumns()
	if err != nil || len(columns) != len(relation.Columns) {
		return now, false, err
	}
	for i, column := range relation.Columns {
		c := columns[i]
		if c.Name != column.Name || c.TypeOID != column.TypeOID || types[i] != "" && types[i] != c.Type {
			return now, false, nil
		}
	}
	return now, true, nil
}

// checkRead refuses the loss of a column that an expression of the definition reads.
func (t *table) checkRead(now catalog.Table, reads map[string]bool) error {
	for _, planned := range t.planned.Columns {
		if !reads[planned.Name] {
			continue
		}
		i := slices.IndexFunc(now.Columns, func(c catalog.Column) bool { return c.Num == planned.Num })
		if i >= 0 && now.Columns[i].Name == planned.Name {
			continue
		}
		what := "dropped"
		if i >= 0 {
			what = "renamed to " + migration.Quote(now.Columns[i].Name)
		}
		return t.drift(fmt.Errorf("column %s, which the definition reads, was %s", migration.Quote(planned.Name), what),
			"give it back its name on the source; or start the migration anew with another definition")
	}
	return nil
}

// evolve is a planned table as it is after what happened on the source. Columns keep what the definition said of them under
// whatever name; a new one is taken as it is, unless columns were chosen.
func evolve(planned mapping.Table, now catalog.Table, chosen bool) mapping.Table {
	next := planned
	next.Columns, next.Into, next.Computed = now.Columns, nil, nil
	source, target := map[string]string{}, map[string]string{}
	for _, column := range now.Columns {
		old := slices.IndexFunc(planned.Columns, func(c catalog.Column) bool { return c.Num == column.Num })
		list, into := &next.Into, planned.Into
		if column.Generated {
			list, into = &next.Computed, planned.Computed
		}
		if old < 0 {
			if !chosen {
				*list = append(*list, mapping.Column{Name: column.Name, Source: column.Name})
			}
			continue
		}
		was := planned.Columns[old].Name
		source[was] = column.Name
		for _, c := range into {
			if c.Source != was {
				continue
			}
			name := c.Name
			if name == was {
				name = column.Name
			}
			target[c.Name] = name
			c.Name, c.Source = name, column.Name
			*list = append(*list, c)
		}
	}
	for _, c := range planned.Into {
		if c.Source == "" {
			next.Into = append(next.Into, c)
		}
	}
	next.Key, next.TargetKey = renamed(planned.Key, source), renamed(planned.TargetKey, target)
	return next
}

func renamed(names []string, to map[string]string) []string {
	next := slices.Clone(names)
	for i, name := range next {
		if other, known := to[name]; known {
			next[i] = other
		}
	}
	return next
}

// alterations lists what has changed since the plan, and what the target lacks of it.
func (a *Applier) alterations(
	ctx context.Context, t *table, relation *wal.Relation, types []string, before mapping.Table, now catalog.Table, known bool, there *counterpart,
) ([]alteration, error) {
	var found []alteration
	was := func(column wal.RelationColumn) *catalog.Column { // what the column was planned as
		num := slices.IndexFunc(now.Columns, func(c catalog.Column) bool { return known && c.Name == column.Name })
		for i, planned := range before.Columns {
			if known && planned.Num == now.Columns[num].Num || !known && planned.Name == column.Name {
				return &before.Columns[i]
			}
		}
		return nil
	}
	stays := map[string]bool{}
	for i, column := range relation.Columns {
		planned := was(column)
		if planned == nil {
			typ := types[i]
			if at := slices.IndexFunc(now.Columns, func(c catalog.Column) bool { return known && c.Name == column.Name }); typ == "" && at >= 0 {
				typ = now.Columns[at].Type
			}
			added, err := a.added(ctx, t, column, typ, there)
			if err != nil {
				return nil, err
			}
			added.moved = slices.ContainsFunc(before.DataColumns(), func(c catalog.Column) bool { return c.Name == column.Name })
			found = append(found, added)
			continue
		}
		stays[planned.Name] = true
		typ, err := a.typeThere(ctx, column, types[i])
		if err != nil {
			return nil, err
		}
		found = append(found, t.changed(*planned, column, types[i], typ, before, there)...)
	}
	for _, planned := range before.DataColumns() {
		if stays[planned.Name] {
			continue
		}
		each := dropped(planned, targetName(before, planned.Name), known, there)
		each.moved = slices.ContainsFunc(relation.Columns, func(c wal.RelationColumn) bool { return c.Name == planned.Name })
		found = append(found, each)
	}
	return found, nil
}

// dropped does not know a column that was dropped from one that was renamed when the source has changed again since.
func dropped(planned catalog.Column, name string, known bool, there *counterpart) alteration {
	each := alteration{text: fmt.Sprintf("column %s dropped", migration.Quote(planned.Name))}
	if _, exists := there.columns[name]; name != "" && exists {
		each.remedy = there.alter + " drop column " + migration.Quote(name)
	}
	if !known {
		each.text += " or renamed"
		if each.remedy != "" {
			each.remedy += " (or rename it, as the source did)"
		}
	}
	return each
}

// typeThere is the target's name of a type: the definition may have given its schema another one.
func (a *Applier) typeThere(ctx context.Context, column wal.RelationColumn, typ string) (string, error) {
	if column.TypeOID < firstUserOID || column.TypeMod != -1 || typ == "" {
		return typ, nil
	}
	name, err := a.userType(ctx, column.TypeOID)
	if err != nil || name == "" {
		return typ, err
	}
	err = a.conn.QueryRow(ctx, "select format_type($1::text::regtype, -1)", name).Scan(&name)
	return name, err
}

// targetName is where a column of the source was written as it is, "" where it was not.
func targetName(planned mapping.Table, source string) string {
	for _, c := range planned.Into {
		if c.Source == source && c.Set == "" {
			return c.Name
		}
	}
	return ""
}

// changed compares a column with what it was planned as.
func (t *table) changed(planned catalog.Column, column wal.RelationColumn, typ, typeThere string, before mapping.Table, there *counterpart) []alteration {
	var found []alteration
	name := targetName(before, planned.Name)
	if planned.Name != column.Name {
		each := alteration{text: fmt.Sprintf("column %s renamed to %s", migration.Quote(planned.Name), migration.Quote(column.Name))}
		each.moved = slices.ContainsFunc(before.DataColumns(), func(c catalog.Column) bool { return c.Name == column.Name })
		if name == planned.Name { // where the definition gave it another name it keeps that
			if _, exists := there.columns[column.Name]; !exists || each.moved {
				each.remedy = fmt.Sprintf("%s rename column %s to %s", there.alter, migration.Quote(name), migration.Quote(column.Name))
			}
			name = column.Name
		}
		found = append(found, each)
	}
	if planned.TypeOID != column.TypeOID || typ != "" && typ != planned.Type {
		each := alteration{text: fmt.Sprintf("type of column %s changed from %s to %s", migration.Quote(column.Name), planned.Type, typ)}
		if at, exists := there.columns[name]; name != "" && (!exists || at.typ != typeThere) {
			each.remedy = fmt.Sprintf("%s alter column %s type %s", there.alter, migration.Quote(name), typeThere)
		}
		found = append(found, each)
	}
	return found
}

// unmoved refuses to go by names where they have changed hands: the values in a column of that name on the target would be
// another one's. That the target has followed shows in the order of its columns alone; then nothing is left to do about them.
func (t *table) unmoved(alterations []alteration, relation *wal.Relation, there *counterpart) error {
	if !slices.ContainsFunc(alterations, func(each alteration) bool { return each.moved }) {
		return nil
	}
	last := 0
	for _, column := range relation.Columns {
		name := targetName(t.planned.Table, column.Name)
		at, exists := there.columns[name]
		if name == "" || !exists {
			continue
		}
		if at.num < last {
			var texts []string
			for _, each := range alterations {
				texts = append(texts, each.text)
			}
			return t.drift(errors.New(strings.Join(texts, "; ")),
				"nothing of the new shape is applied yet; make the same changes on the target, in the order in which the source made them; then `pgdts resume`")
		}
		last = at.num
	}
	for i := range alterations {
		if alterations[i].moved {
			alterations[i].remedy = ""
		}
	}
	return nil
}

// safe are the statements that let the target follow without asking, nil when a person must be asked.
func safe(alterations []alteration) []string {
	var statements []string
	for _, each := range alterations {
		if each.moved || each.remedy != "" && each.safe == nil {
			return nil
		}
		if each.remedy != "" {
			statements = append(statements, each.safe...)
		}
	}
	return statements
}

// unshape takes back the shapes that came with changes which are rolled back: their tables are looked at again.
func (a *Applier) unshape() {
	for i := len(a.reshaped) - 1; i >= 0 && !a.reshaped[i].settled; i-- {
		shape := a.reshaped[i]
		shape.table.planned.Table, shape.table.bound = shape.before, nil
		a.reshaped = a.reshaped[:i]
	}
}
