package precheck

import (
	"context"
	"fmt"

	"github.com/pgdts/pgdts/activities/internal/mapping"
)

// mended says which minor version of each major mends a bug of the server.
type mended map[int]int

// in reports whether a version has the bug, and the one that mends it.
func (m mended) in(version int) (bool, string) {
	major := version / 10000
	minor, known := m[major]
	return known && version%10000 < minor, fmt.Sprintf("%d.%d", major, minor)
}

var (
	// longKeys: an update that left a key value alone which is stored out of line was not logged as one that can be
	// decoded, and was lost.
	longKeys = mended{10: 20, 11: 15, 12: 10, 13: 6, 14: 2}
	// concurrentIndexes that were built by CREATE INDEX CONCURRENTLY or REINDEX CONCURRENTLY may lack rows.
	concurrentIndexes = mended{14: 4}
	// startAmid: pg_create_logical_replication_slot could begin amid a transaction. What we make over the replication
	// protocol with an exported snapshot is not concerned.
	startAmid = mended{12: 20, 13: 16, 14: 13, 15: 8, 16: 4}
)

// knownBugs tells of bugs of the source's minor version by which logical decoding loses data.
func knownBugs(_ context.Context, l *look) (finding, error) {
	version := l.source.version
	var found []finding
	var fix string
	if is, better := longKeys.in(version); is {
		tables, err := l.tables()
		if err != nil {
			return finding{}, err
		}
		if named := withLongKeys(tables); len(named) > 0 && withChanges(l.Spec) {
			fix = "upgrade the source to " + better + " or newer"
			found = append(found, alert("", "PostgreSQL %s loses updates of rows whose key is stored out of line (mended in %s), and these keys can be: %s",
				versionText(version), better, list(named)))
		}
	}
	if is, better := concurrentIndexes.in(version); is {
		fix = "upgrade the source to " + better + " or newer, and rebuild the indexes that were made concurrently"
		found = append(found, notice("", "on PostgreSQL %s an index that was made concurrently may lack rows (mended in %s): no table is read by an index, each is copied under one snapshot",
			versionText(version), better))
	}
	if is, better := startAmid.in(version); is && withGivenSlot(l.Spec) {
		fix = "upgrade the source to " + better + " or newer, then make the slot and the snapshot again"
		found = append(found, alert("", "on PostgreSQL %s a slot that pg_create_logical_replication_slot has made may begin amid a transaction and lose its first half (mended in %s)",
			versionText(version), better))
	}
	if all := together(found); all.state != "" {
		all.fix = fix // the newest mends them all
		return all, nil
	}
	return passed("none of PostgreSQL %s concerns this migration", versionText(version)), nil
}

func withLongKeys(tables []mapping.Table) []string {
	var named []string
	for _, table := range tables {
		for _, name := range table.Key {
			if column, ok := table.Column(name); ok && column.Storage != "p" {
				named = append(named, table.Name.String())
				break
			}
		}
	}
	return named
}
