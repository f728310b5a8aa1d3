// Package e2e drives the built binary against real PostgreSQL and Temporal servers while clients write to the source.
// The oracles are the hash of every table on both sides and the clients' own record of acknowledged commits.
package e2e
