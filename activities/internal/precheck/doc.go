// Package precheck looks at both servers before anything is made there, so that nothing starts that would fail later.
//
// Each thing looked at is one check: a row in the list of checks and a function that returns a finding. A check says
// which servers it needs; where one of them cannot be reached, its connection item says so and the checks that need it
// are left out. Facts that several checks share (tables, rights) are read once, by few queries whatever the number of
// tables.
//
//	I1  Nothing is changed on either server: sessions are read-only, and what is tried out is rolled back.
//	I2  Nothing is waited for: a lock that somebody else holds ends the look after seconds, and the item says so.
//	I3  What our handling makes harmless is a notice. An alert blocks until a person has ignored it. Every item that
//	    blocks names what was found, and the SQL or parameter that mends it.
//
// A process that dies here leaves nothing behind.
package precheck
