// Package pg opens sessions on the two servers and classifies what goes wrong there. Every session has the canonical
// settings, so that a value has one text form on both sides whatever role, database or server say; and an
// application_name that tells which migration, lane and attempt works there, so that a later attempt can end it.
package pg
