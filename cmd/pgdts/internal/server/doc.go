// Package server keeps the Temporal service that `pgdts run` starts for itself: a child process with a durable file in
// a state directory.
//
//	state directory            kept by
//	  lock                     flock of the run; the child inherits it
//	  address.json             the run that holds the lock: pid, address, ui, version, id
//	  temporal.db              the child
//	  temporal.log, run.log    the child, the run
//	  temporal.version         the first start
//	  report.json              the run, at the end
//
// Invariants:
//
//	I1  at most one run and one child work in a state directory: both hold the same lock, so that an orphaned child
//	    keeps a second server from the file.
//	I2  the child ends when the run does, however the run dies (Linux: the kernel sends the signal). Elsewhere, or in
//	    the moment between, the next run finds the orphan by the lock, ends it, and starts on the same file.
//	I3  Ctrl-C of the terminal does not reach the child, which has a process group of its own: the run drains first.
//	I4  a file is only opened by the version of the service that made it, which does not migrate its schema.
//
// SIGKILL of the run, the child, or both at any moment loses no acknowledged event: the file is written synchronously.
package server
