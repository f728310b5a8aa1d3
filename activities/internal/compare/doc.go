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
// What is compared is what the definition promises of a table (PromiseOf). Rows that it leaves out are left out on the
// source, values that it changes are changed there as the copy does it, and of a table into which several are merged the
// target is asked for the rows of this one. Where the target may rightly have more rows than that, sums say nothing: then
// key and hash of each row of the source go to the target, a portion at a time, and are looked up there.
//
// Nothing is written but temporary tables, and nothing is locked beyond what reading takes. The comparison is exact only while neither side is
// written to: under the fence, after the drain.
package compare
