package migration

import "fmt"

// Secrets is what one process knows and no message carries: passwords that a person typed, and the connections that a
// worker was given. A nil *Secrets knows nothing. It is never part of a Spec, and prints nothing of what it holds.
type Secrets struct {
	// Typed are the passwords of a definition for `run`, by side.
	Typed map[Side]Typed
	// Connections are those that a definition may name.
	Connections map[string]Connection
	// Foreign says that definitions come from elsewhere: they may not name files of this machine.
	Foreign bool
}

// Typed are passwords that stand in a connection URI.
type Typed struct{ Password, KeyPassword string }

// Connection is one database under a name of its own, which its worker resolves anew at every connect. Only here may a
// secret come from a command.
type Connection struct {
	Endpoint Endpoint
	Typed    Typed
}

// Format keeps a password out of every message and log, whatever the verb.
func (Typed) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(secret)")) }

// MarshalJSON does the same for JSON.
func (Typed) MarshalJSON() ([]byte, error) { return []byte(`"(secret)"`), nil }
