package precheck

import "github.com/pgdts/pgdts/workflows/migration"

const (
	source = migration.Source
	target = migration.Target
)

// checks lists everything that is looked at, in the order of the report.
func checks() []check {
	return []check{
		{"SOURCE_CONNECTION", "connection to the source", source, nothing, sourceConnection},
		{"TARGET_CONNECTION", "connection to the target", target, nothing, targetConnection},
		{"SOURCE_VERSION", "version of the source", source, theSource, sourceVersion},
		{"TARGET_VERSION", "version of the target", target, theTarget, targetVersion},
		{"DUMP_VERSION", "version of pg_dump", source, theSource, dumpVersion},
		{"SAME_DATABASE", "source and target are two databases", target, both, sameDatabase},
		{"ENCODING", "encodings", target, both, encoding},
		{"SOURCE_PRIMARY", "source is a primary", source, theSource, sourcePrimary},
		{"TARGET_PRIMARY", "target is a primary", target, theTarget, targetPrimary},
		{"SOURCE_FENCED", "source takes writes", source, theSource, sourceFenced},
		{"WAL_LEVEL", "logical decoding", source, theSource, walLevel},
		{"REPLICATION_SLOTS", "free replication slots", source, theSource, replicationSlots},
		{"WAL_SENDERS", "free WAL senders", source, theSource, walSenders},
		{"SLOT_ROOM", "room for the slot's WAL", source, theSource, slotRoom},
		{"IDLE_SLOT_TIMEOUT", "time-out of idle slots", source, theSource, idleSlotTimeout},
		{"OWN_SLOT", "slot left from before", source, both, ownSlot},
		{"PREPARED_TRANSACTIONS", "prepared transactions", source, theSource, preparedTransactions},
		{"LONG_TRANSACTIONS", "long transactions", source, theSource, longTransactions},
		{"REPLICATION_RIGHT", "right to replicate", source, theSource, replicationRight},
		{"SOURCE_SELECT", "right to read the source", source, theSource, sourceSelect},
		{"PUBLICATION_RIGHT", "right to publish tables", source, theSource, publicationRight},
		{"FENCE_RIGHT", "right to fence tables at the cutover", source, theSource, fenceRight},
		{"LOCKS", "room for the fence's locks", source, theSource, locks},
		{"CONNECTIONS", "connections of the source", source, theSource, sourceConnections},
		{"CONNECTIONS", "connections of the target", target, theTarget, targetConnections},
		{"TABLES_WITHOUT_KEY", "tables without key", source, theSource, tablesWithoutKey},
		{"DEFERRABLE_KEYS", "deferrable keys", source, theSource, deferrableKeys},
		{"UNLOGGED_TABLES", "unlogged tables", source, theSource, unloggedTables},
		{"FOREIGN_TABLES", "foreign tables", source, theSource, foreignTables},
		{"LARGE_OBJECTS", "large objects", source, theSource, largeObjects},
		{"RULES_ON_TABLES", "rules on tables", source, theSource, rulesOnTables},
		{"C_FUNCTIONS", "functions in C", source, theSource, cFunctions},
		{"SEQUENCES_BEHIND", "sequences behind their columns", source, theSource, sequencesBehind},
		{"TARGET_CREATE", "right to create on the target", target, both, targetCreate},
		{"REPLICA_ROLE", "replica role on the target", target, theTarget, replicaRole},
		{"ROLES", "roles that objects name", target, both, roles},
		{"EXTENSIONS", "extensions", target, both, extensions},
		{"COLLATIONS", "collations", target, both, collations},
		{"EVENT_TRIGGERS", "event triggers", target, both, eventTriggers},
		{"TARGET_LEDGER", "other migrations on the target", target, both, targetLedger},
		{"TARGET_SAME_TABLES", "tables of the same name on the target", target, both, targetSameTables},
		{"TARGET_SAME_OBJECTS", "other objects of the same name on the target", target, both, targetSameObjects},
	}
}
