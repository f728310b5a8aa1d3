package migration

import "strings"

// connectionNameMax bounds the name of a connection, in bytes.
const connectionNameMax = 63

// ValidConnectionName reports whether a connection may have the name: letters, digits, dots, dashes and underscores.
func ValidConnectionName(name string) bool {
	return name != "" && len(name) <= connectionNameMax && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// validate refuses what an endpoint of a definition may not say, whoever sends it.
func (e Endpoint) validate(side Side) error {
	if e.Connection != "" {
		return e.validateName(side)
	}
	if e.PasswordFrom != nil && len(e.PasswordFrom.Command) > 0 {
		return commandError(string(side) + ".passwordFrom.command")
	}
	if e.SSL != nil && e.SSL.KeyPasswordFrom != nil && len(e.SSL.KeyPasswordFrom.Command) > 0 {
		return commandError(string(side) + ".ssl.keyPasswordFrom.command")
	}
	return nil
}

func (e Endpoint) validateName(side Side) error {
	if !ValidConnectionName(e.Connection) {
		return keyErrorf(string(side)+".connection", "%q: want 1 to %d letters, digits, dots, dashes or underscores", e.Connection, connectionNameMax)
	}
	if e != (Endpoint{Connection: e.Connection}) {
		return keyErrorf(string(side)+".connection", "%s says all by its name: nothing goes beside it", e.Connection)
	}
	return nil
}

func commandError(key string) error {
	return keyErrorf(key, "is allowed among a worker's own connections only (pgdts worker --connections FILE): use env, or connection")
}
