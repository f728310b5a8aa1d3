package precheck

import "github.com/pgdts/pgdts/workflows/migration"

const (
	source = migration.Source
	target = migration.Target
)

// checks lists everything that is looked at, in the order of the report.
func checks() []check {
	return []check{
		{"SOURCE_CONNECTION", "connection to the source", source, nothing, always, sourceConnection},
		{"TARGET_CONNECTION", "connection to the target", target, nothing, always, targetConnection},
		{"SOURCE_VERSION", "version of the source", source, theSource, always, sourceVersion},
		{"TARGET_VERSION", "version of the target", target, theTarget, always, targetVersion},
		{"DUMP_VERSION", "version of pg_dump", source, theSource, withSchema, dumpVersion},
		{"SAME_DATABASE", "source and target are two databases", target, both, always, sameDatabase},
		{"ENCODING", "encodings", target, both, always, encoding},
		{"SOURCE_PRIMARY", "source is a primary", source, theSource, always, sourcePrimary},
		{"TARGET_PRIMARY", "target is a primary", target, theTarget, always, targetPrimary},
		{"SOURCE_FENCED", "source takes writes", source, theSource, always, sourceFenced},
		{"SELECTION", "objects of the definition", source, theSource, always, selectionFits},
		{"NAMES", "names on the target", source, theSource, always, namesFit},
		{"COLUMNS", "columns of the definition", source, theSource, always, columnsFit},
		{"FOREIGN_KEY_PARENTS", "parents of foreign keys", source, theSource, always, parentsSelected},
		{"OBJECTS_LEFT_OUT", "objects that a selection of tables leaves out", source, theSource, withSchema, objectsLeftOut},
		{"NAMES_IN_CODE", "renamed objects in code", source, theSource, withSchema, namesInCode},
		{"FILTERS", "conditions on rows", source, theSource, withRows, filters},
		{"TRANSFORM", "transformations", source, theSource, withRows, transformations},
		{"MERGE", "tables that become one", target, both, withRows, merges},
		{"OPERATIONS", "operations that are left out", source, theSource, withChanges, operationsLeftOut},
		{"REPLICA_IDENTITY", "old rows for filters and transformations", source, theSource, withChanges, oldRows},
		{"WAL_LEVEL", "logical decoding", source, theSource, withChanges, walLevel},
		{"REPLICATION_SLOTS", "free replication slots", source, theSource, withSlot, replicationSlots},
		{"WAL_SENDERS", "free WAL senders", source, theSource, withChanges, walSenders},
		{"SLOT_ROOM", "room for the slot's WAL", source, theSource, withBoth, slotRoom},
		{"IDLE_SLOT_TIMEOUT", "time-out of idle slots", source, theSource, withChanges, idleSlotTimeout},
		{"OWN_SLOT", "slot left from before", source, both, withSlot, ownSlot},
		{"GIVEN_SLOT", "slot that the definition names", source, both, withGivenSlot, givenSlot},
		{"PREPARED_TRANSACTIONS", "prepared transactions", source, theSource, withSlot, preparedTransactions},
		{"LONG_TRANSACTIONS", "long transactions", source, theSource, withSlot, longTransactions},
		{"REPLICATION_RIGHT", "right to replicate", source, theSource, withChanges, replicationRight},
		{"SOURCE_SELECT", "right to read the source", source, theSource, always, sourceSelect},
		{"PUBLICATION_RIGHT", "right to publish tables", source, theSource, withChanges, publicationRight},
		{"FENCE_RIGHT", "right to fence tables at the cutover", source, theSource, withChanges, fenceRight},
		{"LOCKS", "room for the fence's locks", source, theSource, withLocks, locks},
		{"CONNECTIONS", "connections of the source", source, theSource, always, sourceConnections},
		{"CONNECTIONS", "connections of the target", target, theTarget, always, targetConnections},
		{"TABLES_WITHOUT_KEY", "tables without key", source, theSource, withChanges, tablesWithoutKey},
		{"DEFERRABLE_KEYS", "deferrable keys", source, theSource, withChanges, deferrableKeys},
		{"UNLOGGED_TABLES", "unlogged tables", source, theSource, withChanges, unloggedTables},
		{"FOREIGN_TABLES", "foreign tables", source, theSource, withSchema, foreignTables},
		{"LARGE_OBJECTS", "large objects", source, theSource, withRows, largeObjects},
		{"RULES_ON_TABLES", "rules on tables", source, theSource, withSchema, rulesOnTables},
		{"C_FUNCTIONS", "functions in C", source, theSource, withSchema, cFunctions},
		{"SEQUENCES_BEHIND", "sequences behind their columns", source, theSource, withRows, sequencesBehind},
		{"TARGET_CREATE", "right to create on the target", target, both, always, targetCreate},
		{"REPLICA_ROLE", "replica role on the target", target, theTarget, withRows, replicaRole},
		{"ROLES", "roles that objects name", target, both, withSchema, roles},
		{"EXTENSIONS", "extensions", target, both, withSchema, extensions},
		{"COLLATIONS", "collations", target, both, withSchema, collations},
		{"EVENT_TRIGGERS", "event triggers", target, both, withSchema, eventTriggers},
		{"TARGET_LEDGER", "other migrations on the target", target, both, always, targetLedger},
		{"TARGET_SAME_TABLES", "tables of the same name on the target", target, both, withNewTables, targetSameTables},
		{"CONFLICTING_TABLES", "tables that are on the target already", target, both, withOldTables, conflictingTables},
		{"SEQUENCES", "sequences on the target", target, both, withOldSequences, sequencesThere},
		{"TARGET_SAME_OBJECTS", "other objects of the same name on the target", target, both, withSchema, targetSameObjects},
	}
}
