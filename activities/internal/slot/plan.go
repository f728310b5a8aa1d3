package slot

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// plan is what will stand on the source.
type plan struct {
	slot         string
	publications []publication
	identities   identities
}

func (p plan) names() []string {
	names := make([]string, len(p.publications))
	for i, publication := range p.publications {
		names[i] = publication.name
	}
	return names
}

// makePlan sorts the selected tables into publications. The one for tables with keys always exists: a stream needs a
// publication, even if only messages come. A root of parted is not published as such, because some of its partitions are
// left out.
func makePlan(spec migration.Spec, tables []mapping.Table, version int, parted map[migration.TableName]bool) plan {
	keyed := publication{name: spec.ID.Publication()}
	insertOnly := publication{name: spec.ID.PublicationInsertOnly(), publish: "insert, truncate"}
	if version < truncateSince {
		insertOnly.publish = "insert"
	}
	if version < messagesSince {
		keyed.marker = true
	}
	covered := coveredRoots(tables, version, parted)
	for _, table := range tables {
		inTree := covered[rootOf(table)]
		switch {
		case table.Unlogged, inTree && table.Name != rootOf(table), table.Kind == "p" && !inTree:
			continue
		case published(spec, table) == catalog.PublishedAll:
			keyed.tables = append(keyed.tables, member{table.OID, table.Name})
		default:
			insertOnly.tables = append(insertOnly.tables, member{table.OID, table.Name})
		}
	}
	made := plan{slot: slotName(spec), publications: []publication{keyed}, identities: toChange(spec, tables)}
	if len(insertOnly.tables) > 0 {
		made.publications = append(made.publications, insertOnly)
	}
	return made
}

// slotName is the slot that a person has made, or ours.
func slotName(spec migration.Spec) string {
	if spec.Incremental.Slot != "" {
		return spec.Incremental.Slot
	}
	return spec.ID.Slot()
}

// published is what of a table's changes is published when the identities are set. Operations that are left out are
// published all the same: what the stream brings is chosen where it is applied.
func published(spec migration.Spec, table mapping.Table) string {
	if needsFull(spec, table) {
		return catalog.PublishedAll
	}
	return table.Published(table.WithoutKey)
}

// needsFull reports whether a table becomes identifiable by all its columns for the sake of an expression.
func needsFull(spec migration.Spec, table mapping.Table) bool {
	return table.NeedsOldRows && spec.Identity == migration.IdentitySetFull && table.Kind == "r" && !table.Unlogged
}

// rootOf is the topmost table of a table's tree, which is itself for most.
func rootOf(table mapping.Table) migration.TableName {
	if table.Root != (migration.TableName{}) {
		return table.Root
	}
	return table.Name
}

// coveredRoots are the partitioned tables that stand in the publication for all their partitions, the later ones
// included. That takes a server that can (13), a tree that is migrated as a whole, and one answer for all of it: where a
// partition has no usable key while the root has one, or the other way round, updates of some partition would fail or be
// missed. The answer is asked without FULL, which partitions made later do not get: where an expression needs old rows,
// they would come without.
func coveredRoots(tables []mapping.Table, version int, parted map[migration.TableName]bool) map[migration.TableName]bool {
	covered := map[migration.TableName]bool{}
	if version < rootsSince {
		return covered
	}
	answers := map[migration.TableName]string{}
	for _, table := range tables {
		if table.Kind == "p" && table.Name == rootOf(table) && !parted[table.Name] {
			covered[table.Name] = true
			answers[table.Name] = table.Published(migration.InsertOnly)
		}
	}
	for _, table := range tables {
		root := rootOf(table)
		mixed := table.Kind == "r" && table.Published(migration.InsertOnly) != answers[root]
		raised := answers[root] != catalog.PublishedAll && table.WithoutKey == migration.FullIdentity
		if mixed || raised || table.NeedsOldRows || table.Unlogged {
			delete(covered, root)
		}
	}
	return covered
}

// leafTables are the partitions that hold rows, below some roots.
const leafTables = `
with recursive tree (root, oid) as (
    select r, r from unnest($1::oid[]) r
    union
    select t.root, i.inhrelid from tree t join pg_catalog.pg_inherits i on i.inhparent = t.oid
)
select t.root, t.oid from tree t join pg_catalog.pg_class c on c.oid = t.oid and c.relkind = 'r' and c.relispartition`

// partedRoots are the roots of which a partition is left out. A definition without objects leaves none out.
func partedRoots(ctx context.Context, conn *pgx.Conn, spec migration.Spec, tables []mapping.Table) (map[migration.TableName]bool, error) {
	if len(spec.Objects) == 0 {
		return nil, nil
	}
	roots := map[uint32]migration.TableName{}
	selected := map[uint32]bool{}
	for _, table := range tables {
		selected[table.OID] = true
		if table.Kind == "p" && table.Name == rootOf(table) {
			roots[table.OID] = table.Name
		}
	}
	rows, err := conn.Query(ctx, leafTables, slices.Collect(maps.Keys(roots)))
	if err != nil {
		return nil, err
	}
	parted := map[migration.TableName]bool{}
	var root, leaf uint32
	_, err = pgx.ForEachRow(rows, []any{&root, &leaf}, func() error {
		if !selected[leaf] {
			parted[roots[root]] = true
		}
		return nil
	})
	return parted, err
}

// Versions that brought what is used here.
const (
	truncateSince      = 110000 // publish = 'truncate'
	rootsSince         = 130000 // partitioned tables in publications
	messagesSince      = 140000 // logical messages through pgoutput
	batchTables        = 500
	lockTimeoutPublish = "1min"
)
