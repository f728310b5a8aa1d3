package slot

import (
	"github.com/pgdts/pgdts/activities/internal/catalog"
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

// makePlan sorts the tables into publications. The one for tables with keys always exists: a stream needs a publication,
// even if only messages come.
func makePlan(spec migration.Spec, tables []catalog.Table, version int) plan {
	keyed := publication{name: spec.ID.Publication()}
	insertOnly := publication{name: spec.ID.PublicationInsertOnly(), publish: "insert, truncate"}
	if version < truncateSince {
		insertOnly.publish = "insert"
	}
	if version < messagesSince {
		keyed.marker = true
	}
	covered := coveredRoots(spec, tables, version)
	for _, table := range tables {
		inTree := covered[rootOf(table)]
		switch {
		case table.Unlogged, inTree && table.Name != rootOf(table), table.Kind == "p" && !inTree:
			continue
		case table.Published(spec.WithoutKey) == catalog.PublishedAll:
			keyed.tables = append(keyed.tables, member{table.OID, table.Name})
		default:
			insertOnly.tables = append(insertOnly.tables, member{table.OID, table.Name})
		}
	}
	made := plan{slot: spec.ID.Slot(), publications: []publication{keyed}, identities: toChange(spec, tables)}
	if len(insertOnly.tables) > 0 {
		made.publications = append(made.publications, insertOnly)
	}
	return made
}

// rootOf is the topmost table of a table's tree, which is itself for most.
func rootOf(table catalog.Table) migration.TableName {
	if table.Root != (migration.TableName{}) {
		return table.Root
	}
	return table.Name
}

// coveredRoots are the partitioned tables that stand in the publication for all their partitions, the later ones
// included. That takes a server that can (13), and one answer for the whole tree: where a partition has no usable key
// while the root has one, or the other way round, updates of some partition would fail or be missed. The answer is asked
// without FULL, which partitions made later do not get.
func coveredRoots(spec migration.Spec, tables []catalog.Table, version int) map[migration.TableName]bool {
	covered := map[migration.TableName]bool{}
	if version < rootsSince {
		return covered
	}
	answers := map[migration.TableName]string{}
	for _, table := range tables {
		if table.Kind == "p" && table.Name == rootOf(table) {
			covered[table.Name] = true
			answers[table.Name] = table.Published(migration.InsertOnly)
		}
	}
	for _, table := range tables {
		root := rootOf(table)
		mixed := table.Kind == "r" && table.Published(migration.InsertOnly) != answers[root]
		raised := answers[root] != catalog.PublishedAll && spec.WithoutKey == migration.FullIdentity
		if mixed || raised || table.Unlogged {
			delete(covered, root)
		}
	}
	return covered
}

// Versions that brought what is used here.
const (
	truncateSince      = 110000 // publish = 'truncate'
	rootsSince         = 130000 // partitioned tables in publications
	messagesSince      = 140000 // logical messages through pgoutput
	batchTables        = 500
	lockTimeoutPublish = "1min"
)
