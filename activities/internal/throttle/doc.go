// Package throttle keeps a migration below the rates that its user allows, over all workers together.
package throttle
