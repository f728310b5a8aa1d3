// Package definition reads the file that says what a migration is: YAML or JSON, strict. A key that nobody knows, a
// value of the wrong type, and a key that this version does not support are errors with their line, never ignored: a
// definition that is half understood would move the wrong data.
//
// Secrets are taken out at the door. What Load returns holds references only; a password that was typed into a URI is
// handed back apart, for the memory of `run`.
package definition
