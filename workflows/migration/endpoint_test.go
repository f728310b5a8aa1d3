package migration_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Whoever may start a workflow must not thereby run programs where its worker runs, nor read files there.
func TestWhatAnInputMayNotName(t *testing.T) {
	t.Parallel()
	command := &migration.SecretRef{Command: []string{"cat", "/etc/shadow"}}
	for key, e := range map[string]migration.Endpoint{
		"source.passwordFrom.command":        {Host: "h", Database: "d", PasswordFrom: command},
		"source.ssl.keyPasswordFrom.command": {Host: "h", Database: "d", SSL: &migration.SSL{KeyPasswordFrom: command}},
		"source.connection":                  {Connection: "shop", User: "app"},
	} {
		s := valid()
		s.Source = e
		require.ErrorContains(t, s.Validate(), key)
	}
	file := &migration.SecretRef{File: "/etc/shadow"}
	for key, e := range map[string]migration.Endpoint{
		"target.passwordFrom.file":        {PasswordFrom: file},
		"target.ssl.keyPasswordFrom.file": {SSL: &migration.SSL{KeyPasswordFrom: file}},
		"target.ssl.ca":                   {SSL: &migration.SSL{CA: "ca.pem"}},
		"target.uri names a file":         {URI: "postgres://h/d?sslcrldir=/etc"},
		"target.uri holds a password":     {URI: "postgres://h/d?sslpassword=x"},
	} {
		s := valid()
		s.Target = e
		require.NoError(t, s.Validate())
		require.ErrorContains(t, s.Portable(), key)
	}
	for _, e := range []migration.Endpoint{
		{Connection: "shop"},
		{URI: "postgres://h/d?sslrootcert=system"},
		{Host: "h", SSL: &migration.SSL{Mode: "verify-full", CA: "system", KeyPasswordFrom: &migration.SecretRef{Env: "KEY"}}},
	} {
		s := valid()
		s.Target = e
		require.NoError(t, s.Validate())
		require.NoError(t, s.Portable())
	}
}

func TestNamesOfConnections(t *testing.T) {
	t.Parallel()
	for name, valid := range map[string]bool{
		"shop": true, "Shop-1.eu_west": true, "": false, "a/b": false, "a b": false, "é": false, strings.Repeat("x", 64): false,
	} {
		require.Equal(t, valid, migration.ValidConnectionName(name), name)
	}
}

// A password that is printed by accident is not printed.
func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	secrets := migration.Secrets{
		Typed:       map[migration.Side]migration.Typed{migration.Source: {Password: "hunter2", KeyPassword: "hunter2"}},
		Connections: map[string]migration.Connection{"shop": {Typed: migration.Typed{Password: "hunter2"}}},
	}
	encoded, err := migration.Typed{Password: "hunter2"}.MarshalJSON()
	require.NoError(t, err)
	for _, text := range []string{fmt.Sprint(secrets), fmt.Sprintf("%+v %#v %v", secrets, &secrets, secrets.Connections), string(encoded)} {
		require.NotContains(t, text, "hunter2")
		require.Contains(t, text, "secret")
	}
}
