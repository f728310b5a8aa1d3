// Package throttle keeps a migration below the rates that its user allows, over all workers together.
//
// The rates are in the ledger, beside what lanes were granted. A lane takes a slice of a tenth of a second by one short update,
// and sleeps until the line through the rates, on the target's clock, has reached the end of its slice. So the processes need no
// coordinator, one that dies costs the others a slice, and a changed rate bends the line for those too who sleep already.
package throttle
