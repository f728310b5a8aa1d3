// Package catalog reads what is there: tables with columns, keys and replica identity, sequences, extensions, sizes.
// It changes nothing.
package catalog
