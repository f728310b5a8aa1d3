// Package pgserver runs real PostgreSQL servers on loopback, for the tests and for the demo.
//
// A server lives in one directory and is the child of this process:
//
//	<Dir>/data         the cluster, and the server's Unix socket
//	<Dir>/server.log   what initdb and every postmaster started there have written
//	<Dir>/owner.lock   locked while the process that made a temporary directory lives
//
// A server never outlives the process that started it, however that process ends: the kernel sends
// the postmaster SIGQUIT, which is its order to shut down at once with all its backends. Temporary
// directories left behind by a killed process are removed by the next process that makes one.
//
// All of this needs Linux: the death signal, /proc and the fetched servers.
//
// As root, initdb and the servers run as the user postgres (or nobody), since PostgreSQL refuses root.
package pgserver
