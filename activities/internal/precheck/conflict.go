package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// conflictingTables looks at tables that the migration writes into and does not make: without the schema that is all of
// them, and with conflict: ignore those that are there.
func conflictingTables(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.met()
	if err != nil {
		return finding{}, err
	}
	merged := c.merged()
	found := problems(slices.DeleteFunc(slices.Clone(c.problems), func(p mapping.Problem) bool { return merged[p.Object] > 1 }), mapping.KindConflict)
	for _, look := range []func(context.Context, []mapping.Table) ([]finding, error){l.displaced, l.filled, l.unfit, l.narrowed} {
		some, err := look(ctx, c.Tables)
		if err != nil {
			return finding{}, err
		}
		found = append(found, some...)
	}
	if all := together(found); all.state != "" {
		return all, nil
	}
	if !withSchema(l.Spec) {
		return passed("%s to write, and all are there", count(len(c.Tables), "table")), nil
	}
	existing, err := l.existing()
	return passed("%s, of which the target has %d", count(len(c.Tables), "table"), len(existing)), err
}

// displaced: a view or a foreign table in a table's place is no table that could be kept.
func (l *look) displaced(ctx context.Context, tables []mapping.Table) ([]finding, error) {
	if !withSchema(l.Spec) {
		return nil, nil
	}
	schemas, relations := targets(tables)
	same, err := rows[relation](ctx, l.target, readSameTables, schemas, relations)
	var named, drops []string
	for _, r := range same {
		if r.Kind != "table" {
			named = append(named, r.Kind+" "+r.name().String())
			drops = append(drops, r.drop())
		}
	}
	if err != nil || len(named) == 0 {
		return nil, err
	}
	return []finding{failed("-- if nothing of it is needed any more, on the target:\n"+statements(drops),
		"the target has other things in the place of tables: %s", list(named))}, nil
}

// filledPerQuery bounds the length of a statement and the locks that it takes at once.
const filledPerQuery = 200

// filled: rows that are there already would stand between those that are copied. With conflict: ignore they stay, and
// without a copy they are what the changes belong to.
func (l *look) filled(ctx context.Context, tables []mapping.Table) ([]finding, error) {
	states, err := l.facts.states()
	if err != nil || !l.Spec.Has(migration.TypeFull) {
		return nil, err
	}
	ours, err := l.planned(ctx)
	if err != nil {
		return nil, err
	}
	written := map[migration.TableName]bool{} // the root of a partition tree has no rows of its own
	for _, table := range tables {
		written[table.Target] = written[table.Target] || table.Kind == "r"
	}
	states = slices.DeleteFunc(slices.Clone(states), func(s state) bool { return ours[s.name()] || !s.Select || !written[s.name()] })
	if l.Spec.Conflict == migration.ConflictIgnore {
		return keptRows(states), nil
	}
	var full, fixes []string
	for first := 0; first < len(states); first += filledPerQuery {
		part := states[first:min(first+filledPerQuery, len(states))]
		holding, err := l.holding(ctx, part)
		if err != nil {
			return nil, err
		}
		for _, s := range holding {
			full, fixes = append(full, s.name().String()), append(fixes, "truncate "+s.name().SQL()+";")
		}
	}
	if len(full) == 0 {
		return nil, nil
	}
	return []finding{failed("-- if nothing of it is needed any more, on the target:\n"+statements(fixes)+
		"\n-- or conflict: ignore in the definition, which keeps rows whose key is there",
		"%s of the target hold rows already, and conflict is report: %s", count(len(full), "table"), list(full))}, nil
}

func keptRows(states []state) []finding {
	var kept []string
	for _, s := range states {
		if s.Rows > 0 {
			kept = append(kept, fmt.Sprintf("%s (about %s)", s.name(), count(int(s.Rows), "row")))
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return []finding{notice("", "rows that the target has already stay as they are until the source changes them: %s", list(kept))}
}

// holding asks which tables hold a row. The partitions of a table that is partitioned on the target alone count as its.
func (l *look) holding(ctx context.Context, states []state) ([]state, error) {
	selects := make([]string, len(states))
	for i, s := range states {
		only := "only "
		if s.Kind == "p" {
			only = ""
		}
		selects[i] = fmt.Sprintf("select %d, exists (select from %s%s)", i, only, s.name().SQL())
	}
	// The simple protocol keeps a statement that is never asked again out of the driver's cache.
	result, err := l.target.conn.Query(ctx, strings.Join(selects, " union all "), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	var holding []state
	var i int
	var holds bool
	_, err = pgx.ForEachRow(result, []any{&i, &holds}, func() error {
		if holds {
			holding = append(holding, states[i])
		}
		return nil
	})
	return holding, err
}

const readPlanned = `select target_schema, target_name from dts_sync.tbl where migration = $1`

// planned are the tables of the target that this migration has begun to fill, whoever made them.
func (l *look) planned(ctx context.Context) (map[migration.TableName]bool, error) {
	planned := map[migration.TableName]bool{}
	usable, err := l.ledgerUsable(ctx)
	if err != nil || !usable {
		return planned, err
	}
	found, err := rows[migration.TableName](ctx, l.target, readPlanned, l.Spec.ID)
	for _, name := range found {
		planned[name] = true
	}
	return planned, err
}
