package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/pgdts/pgdts/starter/definition"
	"github.com/pgdts/pgdts/workflows/migration"
)

// connectionsFlag is for the commands that connect to databases themselves.
func (a *app) connectionsFlag(command *cobra.Command) {
	command.Flags().StringVar(&a.connections, "connections", "", "file of the connections that definitions may name (default: $PGDTS_CONNECTIONS)")
}

// secrets adds the named connections to what was typed into a definition.
func (a *app) secrets(typed *migration.Secrets) (*migration.Secrets, error) {
	file := a.connections
	if file == "" {
		file = os.Getenv("PGDTS_CONNECTIONS")
	}
	if file == "" {
		return typed, nil
	}
	connections, err := definition.LoadConnections(file)
	if err != nil {
		return nil, err
	}
	secrets := &migration.Secrets{Connections: connections}
	if typed != nil {
		secrets.Typed = typed.Typed
	}
	return secrets, nil
}
