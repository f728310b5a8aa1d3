// Package starter is the typed client of migrations: it starts them on a Temporal service, tells where they stand, and
// passes on what a person wants. Commands, tests and other programs go through it.
//
//	c, err := client.Dial(client.Options{})
//	s := starter.New(c)
//	id, err := s.Start(ctx, spec)
//	report, err := s.Wait(ctx, id)
//
// A migration that ended badly comes back from Wait as a *migration.Fault.
package starter
