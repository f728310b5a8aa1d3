// Package compare tells whether a table holds the same rows on both servers, without moving them: each side adds up a
// hash of every row, and the sums are compared.
//
//	row  = row(column, …)::text    the output functions' text, quoted, NULL apart from ''
//	hash = 64 bits of it           of the same function on both sides
//	sum  = over all rows           exact, whatever the order; duplicates count
//
// What makes the text the same on both servers: canonical settings of the session (package pg), columns by name in one
// order, and for floating-point values, which are printed differently before and since PostgreSQL 12, their bits.
//
// What makes the hash the same: hashtextextended, which exists since PostgreSQL 11, depends on the byte order of the
// machine, so both sides are asked for the hash of a few known texts; where the answers differ, or one has none, 64 bits
// of MD5 are taken.
//
// Nothing is written and nothing is locked beyond what reading takes. The comparison is exact only while neither side is
// written to: under the fence, after the drain.
package compare
