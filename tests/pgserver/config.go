package pgserver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Config says which server to start. The zero value is a fast, unsafe server of the newest version found.
type Config struct {
	// Major is the PostgreSQL version, such as 15. Zero means the newest that Find knows.
	Major int
	// Dir holds the cluster and its log. An existing cluster is started again as it is.
	// Empty means a temporary directory, which Close removes. The path of a given directory
	// must be open to the user who runs the server.
	Dir string
	// Settings go to the configuration file over the defaults below, unquoted by the caller.
	Settings map[string]string
	// Superuser is the role that initdb makes. The default is postgres.
	Superuser string
	// Port on 127.0.0.1. Zero means a free one, below the range from which the kernel takes the
	// ports of outgoing connections: a client that reconnects to a stopped server in that range
	// can end up connected to itself.
	Port int
}

func (c Config) withDefaults() Config {
	if c.Superuser == "" {
		c.Superuser = "postgres"
	}
	settings := map[string]string{
		// A test server may lose everything with the machine, not with the process: pages that were
		// written survive SIGKILL. Tests about durability set fsync to on.
		"fsync":                 "off",
		"shared_buffers":        "128MB",
		"wal_level":             "logical",
		"max_wal_senders":       "20",
		"max_replication_slots": "20",
		// Tables with triggers of two-phase commit are part of what is migrated.
		"max_prepared_transactions": "50",
		"max_connections":           "200",
		"listen_addresses":          "127.0.0.1",
		"log_line_prefix":           "%m [%p] %q%u@%d %a ",
		"log_timezone":              "UTC",
		"timezone":                  "UTC",
	}
	maps.Copy(settings, c.Settings)
	c.Settings = settings
	return c
}

func (c Config) validate() error {
	if c.Major < 0 || c.Port < 0 || c.Port > 65535 {
		return fmt.Errorf("start server: major %d or port %d out of range", c.Major, c.Port)
	}
	if address := c.Settings["listen_addresses"]; address != "127.0.0.1" {
		return fmt.Errorf("start server: listen_addresses is %q: servers without passwords stay on loopback", address)
	}
	return nil
}

// render returns the text of the configuration file, sorted so that two starts write the same.
func render(settings map[string]string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	return text.String()
}
