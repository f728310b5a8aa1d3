// Package ddl looks at the source's catalog while changes are followed, and says what is no longer as it was planned. It
// writes nothing.
//
// The stream describes a table anew before the first change of its new shape, and there package apply stops or follows.
// What the stream is silent about is found here: tables that are published no more, partitions that came with rows, another
// table under a known name. Changes of these are missing on the target and nothing else would say so: they are faults.
// Everything else is told, and stops nothing.
package ddl
