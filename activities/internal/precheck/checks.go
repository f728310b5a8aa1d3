package precheck

import (
	"slices"

	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	source = migration.Source
	target = migration.Target
)

// checks lists everything that is looked at, in the order of the report.
func checks() []check {
	return slices.Concat(aboutServers(), aboutDefinition(), aboutChanges(), aboutSource(), aboutObjects(), aboutTarget())
}

// aboutServers are asked of any migration.
func aboutServers() []check {
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
		{"KNOWN_BUGS", "bugs of the source's version", source, theSource, withRows, knownBugs},
		{"SYNCHRONOUS_STANDBYS", "standbys that commits of the source wait for", source, theSource, always, sourceStandbys},
		{"SYNCHRONOUS_STANDBYS", "standbys that commits of the target wait for", target, theTarget, always, targetStandbys},
		{"SOURCE_FENCED", "source takes writes", source, theSource, always, sourceFenced},
	}
}

// aboutDefinition asks whether what was defined means something.
func aboutDefinition() []check {
	return []check{
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
	}
}

// aboutChanges asks for the log, the slot and the stream.
func aboutChanges() []check {
	return []check{
		{"WAL_LEVEL", "logical decoding", source, theSource, withChanges, walLevel},
		{"REPLICATION_SLOTS", "free replication slots", source, theSource, withSlot, replicationSlots},
		{"WAL_SENDERS", "free WAL senders", source, theSource, withChanges, walSenders},
		{"WAL_SENDER_TIMEOUT", "time-out of WAL senders", source, theSource, withChanges, walSenderTimeout},
		{"COPY_ESTIMATE", "time that the copy takes", source, theSource, withCopy, copyEstimate},
		{"SLOT_ROOM", "room for the slot's WAL", source, theSource, withBoth, slotRoom},
		{"IDLE_SLOT_TIMEOUT", "time-out of idle slots", source, theSource, withChanges, idleSlotTimeout},
		{"ARCHIVING", "archiving of the source's WAL", source, theSource, withChanges, archiving},
		{"XID_AGE", "age of the source's oldest rows", source, theSource, withChanges, xidAge},
		{"OTHER_SLOTS", "slots of other readers", source, theSource, always, otherReaders},
		{"ORPHAN_SLOTS", "slots of other migrations", source, theSource, withChanges, orphanSlots},
		{"SUBSCRIPTIONS", "subscriptions of the source", source, theSource, withRows, sourceSubscriptions},
		{"OWN_SLOT", "slot left from before", source, both, withSlot, ownSlot},
		{"GIVEN_SLOT", "slot that the definition names", source, both, withGivenSlot, givenSlot},
		{"PREPARED_TRANSACTIONS", "prepared transactions", source, theSource, withSlot, preparedTransactions},
		{"LONG_TRANSACTIONS", "long transactions", source, theSource, withSlot, longTransactions},
	}
}

// aboutSource asks what the role may do there, and what both servers bear.
func aboutSource() []check {
	return []check{
		{"REPLICATION_RIGHT", "right to replicate", source, theSource, withChanges, replicationRight},
		{"SOURCE_SELECT", "right to read the source", source, theSource, always, sourceSelect},
		{"PUBLICATION_RIGHT", "right to publish tables", source, theSource, withChanges, publicationRight},
		{"MARKER_RIGHT", "right to write markers", source, theSource, withChanges, markerRight},
		{"FENCE_RIGHT", "right to fence tables at the cutover", source, theSource, withChanges, fenceRight},
		{"LOCKS", "room for the fence's locks", source, theSource, withLocks, locks},
		{"CONNECTIONS", "connections of the source", source, theSource, always, sourceConnections},
		{"CONNECTIONS", "connections of the target", target, theTarget, always, targetConnections},
		{"LOAD", "load of the source", source, theSource, always, sourceLoad},
		{"LOAD", "load of the target", target, theTarget, always, targetLoad},
		{"TARGET_SPACE", "space on the target", target, both, withCopy, targetSpace},
		{"TEMP_FILE_LIMIT", "room to sort on the target", target, both, withSchema, tempFileLimit},
		{"WORKER_PROCESSES", "workers for index builds", target, theTarget, withSchema, workerProcesses},
	}
}

// aboutObjects asks for what does not travel as one might think.
func aboutObjects() []check {
	return []check{
		{"TABLES_WITHOUT_KEY", "tables without key", source, theSource, withChanges, tablesWithoutKey},
		{"DEFERRABLE_KEYS", "deferrable keys", source, theSource, withChanges, deferrableKeys},
		{"UNLOGGED_TABLES", "unlogged tables", source, theSource, withChanges, unloggedTables},
		{"TEMPORARY_TABLES", "temporary tables", source, theSource, always, temporaryTables},
		{"FOREIGN_TABLES", "foreign tables", source, theSource, withSchema, foreignTables},
		{"FOREIGN_SERVERS", "foreign servers", target, both, withSchema, foreignServers},
		{"UNFILLED_VIEWS", "materialized views without rows", source, theSource, withSchema, unfilledViews},
		{"LARGE_OBJECTS", "large objects", source, theSource, withRows, largeObjects},
		{"RULES_ON_TABLES", "rules on tables", source, theSource, withSchema, rulesOnTables},
		{"INHERITANCE", "tables with several parents", source, theSource, withRows, manyParents},
		{"HIDDEN_OIDS", "tables with oids", source, theSource, withRows, hiddenOIDs},
		{"NAMED_VALUES", "values that name roles and relations", source, theSource, withRows, namedValues},
		{"MONEY", "columns of type money", source, theSource, withRows, money},
		{"C_FUNCTIONS", "functions in C", source, theSource, withSchema, cFunctions},
		{"SEARCHED_CODE", "functions that need a search_path", source, theSource, withRows, searchedCode},
		{"CHANGING_CHECKS", "checks that ask for more than their row", source, theSource, withSchemaAndRows, changingChecks},
		{"INVALID_INDEXES", "invalid indexes", source, theSource, withSchema, invalidIndexes},
		{"SEQUENCES_BEHIND", "sequences behind their columns", source, theSource, withRows, sequencesBehind},
	}
}

// aboutTarget asks for what the migration finds and makes there.
func aboutTarget() []check {
	return []check{
		{"TARGET_CREATE", "right to create on the target", target, both, always, targetCreate},
		{"TEMPORARY_RIGHT", "right to make temporary tables on the target", target, both, withRows, temporaryRight},
		{"OWNER_RIGHT", "right to give objects their owners", target, both, withSchema, ownerRight},
		{"SUPERUSER_OBJECTS", "objects that only a superuser creates", target, both, withSchema, superuserObjects},
		{"REPLICA_ROLE", "replica role on the target", target, theTarget, withRows, replicaRole},
		{"ROLES", "roles that objects name", target, both, withSchema, roles},
		{"COLUMN_TYPES", "types that the target's version knows", target, both, withSchema, columnTypes},
		{"SERVER_OBJECTS", "what the target's version lacks", target, both, withSchema, serverObjects},
		{"EXTENSIONS", "extensions", target, both, withSchema, extensions},
		{"EXTENSION_TABLES", "tables of extensions", source, theSource, withRows, extensionTables},
		{"LANGUAGES", "languages of functions", target, both, withSchema, languages},
		{"COLLATIONS", "collations", target, both, withSchema, collations},
		{"PARTITION_BOUNDS", "partitions that rows belong into", target, both, withRows, partitionBounds},
		{"COLLATION_VERSIONS", "versions of collations", source, theSource, withRows, collationVersions},
		{"EVENT_TRIGGERS", "event triggers", target, both, withSchema, eventTriggers},
		{"SECURITY_LABELS", "security labels", target, both, withSchema, securityLabels},
		{"PUBLICATIONS", "publications of the source", source, theSource, withSchema, publications},
		{"DATABASE_SETTINGS", "settings of the database and of roles", target, both, always, databaseSettings},
		{"CRON_JOBS", "jobs of pg_cron", source, theSource, always, cronJobs},
		{"TARGET_LEDGER", "other migrations on the target", target, both, always, targetLedger},
		{"SUBSCRIPTIONS", "subscriptions of the target", target, both, withRows, targetSubscriptions},
		{"TARGET_SAME_TABLES", "tables of the same name on the target", target, both, withNewTables, targetSameTables},
		{"CONFLICTING_TABLES", "tables that are on the target already", target, both, withOldTables, conflictingTables},
		{"SEQUENCES", "sequences on the target", target, both, withOldSequences, sequencesThere},
		{"TARGET_SAME_OBJECTS", "other objects of the same name on the target", target, both, withSchema, targetSameObjects},
	}
}
