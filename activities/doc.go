// Package activities carries out the steps of a migration. Each activity is thin: it opens the two servers, takes its
// lane of the ledger, calls the engine with a progress callback, and translates the engine's fault once, at its last
// line. What the engine does is in the internal packages, which know no Temporal.
package activities
