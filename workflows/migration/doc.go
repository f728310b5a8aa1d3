// Package migration holds the nouns of a live PostgreSQL migration: what was asked (Spec), where it stands (Phase,
// Status), how things are named (ID, SlotName, TableName), how positions compare (LSN, Snapshot), and how things go
// wrong (Fault). It imports the standard library only, so that workflow code, the engine and other programs share it.
package migration
