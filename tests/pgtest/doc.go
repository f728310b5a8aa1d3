// Package pgtest gives tests real PostgreSQL servers and databases, and compares what is in them.
//
// A test that changes a server's settings or ends it takes a private one with Server; every other
// takes a Database of its own on Shared and runs in parallel. Everything is gone when the test ends,
// replication slots included, since a forgotten slot keeps the log of the whole server.
package pgtest
