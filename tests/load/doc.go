// Package load writes to a source database while it is migrated, and remembers what the server acknowledged. Each
// transaction also inserts its client and sequence number into load.audit; after the cutover every acknowledged number
// must be on the target exactly once, and none that was rolled back.
package load
