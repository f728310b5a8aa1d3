package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/server"
	"github.com/pgdts/pgdts/starter"
	"github.com/pgdts/pgdts/starter/definition"
	"github.com/pgdts/pgdts/workflows/migration"
)

// choice says which migration a command means: [ID], -f FILE, or the only one there is.
type choice struct {
	app  *app
	file string
}

func (c *choice) flag(command *cobra.Command) {
	command.Args = cobra.MaximumNArgs(1)
	command.Flags().StringVarP(&c.file, "file", "f", "", "definition file, instead of the id")
}

// chosen is a migration, and the service that knows it (nil when there is none).
type chosen struct {
	*connection
	id      migration.ID
	spec    *migration.Spec    // from the file; nil without
	secrets *migration.Secrets // typed into the file; nil without
}

// find completes what was typed and connects. The caller closes what it gets.
func (c *choice) find(ctx context.Context, arguments []string) (*chosen, error) {
	typed, found, err := c.read(arguments)
	if err != nil {
		return nil, err
	}
	if found.connection, err = c.app.connect(ctx, typed); err != nil {
		return nil, err
	}
	if found.id, err = c.complete(ctx, found, typed); err != nil {
		found.close()
		return nil, err
	}
	return found, nil
}

// read takes the id from the file where none was typed.
func (c *choice) read(arguments []string) (string, *chosen, error) {
	typed := ""
	if len(arguments) > 0 {
		typed = arguments[0]
	}
	found := &chosen{}
	if c.file == "" {
		return typed, found, nil
	}
	spec, secrets, err := definition.Load(c.file)
	if err != nil {
		return "", nil, err
	}
	if id, err := migration.ParseID(typed); err == nil {
		spec.ID = id
	}
	if typed == "" {
		typed = string(spec.ID)
	}
	found.id, found.spec, found.secrets = spec.ID, &spec, secrets
	return typed, found, nil
}

// complete asks Temporal. A file may also mean a migration that `start` began under a drawn id: it has the name.
func (c *choice) complete(ctx context.Context, found *chosen, typed string) (migration.ID, error) {
	id, err := found.Find(ctx, typed)
	if err != nil || found.spec == nil {
		return id, err
	}
	_, err = found.Ended(ctx, id)
	var unknown *starter.UnknownError
	if errors.As(err, &unknown) {
		if id, err = found.Find(ctx, found.spec.Name); err != nil {
			return "", unknown
		}
	}
	found.spec.ID = id
	return id, err
}

// definition is the file's, or what the migration was started with. Passwords that were typed into a file for `run`
// are only in the file.
func (c *chosen) definition(ctx context.Context) (migration.Spec, error) {
	if c.spec != nil {
		return *c.spec, nil
	}
	return c.Spec(ctx, c.id)
}

func (c *chosen) close() {
	if c.connection != nil {
		c.Close()
	}
}

// savedReport finds what a run left in its state directory, for when its Temporal service is gone with it.
func (c *choice) savedReport(arguments []string) (migration.Report, bool) {
	typed, found, err := c.read(arguments)
	if err != nil {
		return migration.Report{}, false
	}
	root, err := c.app.stateRoot()
	if err != nil {
		return migration.Report{}, false
	}
	below, _ := filepath.Glob(filepath.Join(root, "*", server.ReportFile)) // the pattern is well-formed
	var fitting []migration.Report
	for _, path := range append([]string{filepath.Join(root, server.ReportFile)}, below...) {
		report, err := readReport(path)
		if err != nil {
			continue
		}
		if typed == "" || typed == string(report.ID) || typed == report.ID.Short() || typed == report.Name || found.id == report.ID {
			fitting = append(fitting, report)
		}
	}
	if len(fitting) != 1 {
		return migration.Report{}, false
	}
	return fitting[0], true
}

func readReport(path string) (migration.Report, error) {
	var report migration.Report
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, &report)
	}
	return report, err
}

// spec is the definition of a migration for work on its databases from here, with what it takes to connect to them. With
// -f it needs no Temporal.
func (c *choice) spec(ctx context.Context, arguments []string) (migration.Spec, *migration.Secrets, error) {
	spec, typed, err := c.asked(ctx, arguments)
	if err != nil {
		return migration.Spec{}, nil, err
	}
	secrets, err := c.app.secrets(typed)
	return spec, secrets, err
}

// asked is the file's definition, or else the one that Temporal knows.
func (c *choice) asked(ctx context.Context, arguments []string) (migration.Spec, *migration.Secrets, error) {
	found, err := c.find(ctx, arguments)
	if c.file != "" && err != nil {
		if _, found, err = c.read(arguments); err != nil {
			return migration.Spec{}, nil, err
		}
		return *found.spec, found.secrets, nil
	}
	if errors.Is(err, errNoService) {
		return migration.Spec{}, nil, fmt.Errorf("%w: give the definition with -f FILE", err)
	}
	if err != nil {
		return migration.Spec{}, nil, err
	}
	defer found.close()
	spec, err := found.definition(ctx)
	return spec, found.secrets, err
}
