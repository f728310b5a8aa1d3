package precheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// oldRows: a row that enters or leaves a filter, or a transformation, needs values that the stream leaves out when they
// have not changed. With REPLICA IDENTITY FULL the old row brings them.
func oldRows(_ context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	tables = slices.DeleteFunc(slices.Clone(tables), func(t mapping.Table) bool { return !lacksOldRows(t) })
	if len(tables) == 0 {
		return passed("every filter and transformation finds what it reads"), nil
	}
	var lacking, fixes []string
	for _, table := range tables {
		lacking = append(lacking, table.Name.String())
		fixes = append(fixes, fmt.Sprintf("alter table %s replica identity full;", table.Name.SQL()))
	}
	const found = "filters or transformations of these tables need values that the stream leaves out without REPLICA IDENTITY FULL: %s"
	switch {
	case withGivenSlot(l.Spec):
		return failed(statements(fixes)+"\n-- then make the slot and the snapshot again: what it holds was written without", found, list(lacking)), nil
	case l.Spec.Identity != migration.IdentitySetFull:
		return failed(statements(fixes)+"\n-- or identity: set-full in the definition, which sets it and restores it at the end",
			found, list(lacking)), nil
	}
	rights, err := l.facts.rights()
	if err != nil {
		return finding{}, err
	}
	others, owners := l.notOwned(slices.DeleteFunc(slices.Clone(rights), func(r right) bool {
		return !slices.ContainsFunc(tables, func(t mapping.Table) bool { return t.Name == r.table() })
	}))
	if len(others) > 0 {
		return failed(statements(owners), "identity is set-full, and role %s does not own %s: only an owner may set REPLICA IDENTITY FULL",
			l.source.role, list(others)), nil
	}
	return notice("", "REPLICA IDENTITY FULL is set for the time of the migration: %s", list(lacking)), nil
}

// lacksOldRows leaves out tables whose identity is set to full anyway for want of a key, and those whose updates and
// deletes are not in the stream.
func lacksOldRows(t mapping.Table) bool {
	return t.NeedsOldRows && t.Kind == "r" && t.Identity != "f" && t.Published(t.WithoutKey) == catalog.PublishedAll &&
		(t.Found || t.WithoutKey != migration.FullIdentity)
}

// operationsLeftOut: what is not applied makes the target differ on purpose.
func operationsLeftOut(_ context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	var some []string
	for _, table := range tables {
		if table.Operations.All() {
			continue
		}
		var without []string
		for _, op := range []migration.Operation{
			migration.OperationInsert, migration.OperationUpdate, migration.OperationDelete, migration.OperationTruncate,
		} {
			if !table.Operations.Has(op) {
				without = append(without, string(op))
			}
		}
		some = append(some, fmt.Sprintf("%s (%s)", table.Name, list(without)))
	}
	if len(some) == 0 {
		return passed("all are applied"), nil
	}
	return notice("", "%s without some operations, which are not applied, so the rows may differ: nothing is counted strictly there, "+
		"and verification compares as far as the definition promises: %s", count(len(some), "table"), list(some)), nil
}
