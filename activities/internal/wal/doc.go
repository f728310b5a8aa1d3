// Package wal turns pgoutput messages into transactions. It is pure: no connection, no clock. Values stay the bytes
// that the server sent (text form under the canonical settings); nothing is decoded into Go types.
//
//	I1  No input makes it panic: every length is checked against what is there.
//	I2  What it hands out shares no memory with the message: the driver overwrites its buffer with the next one.
//	I3  It holds at most one part of one transaction, and the tables' descriptions.
package wal
