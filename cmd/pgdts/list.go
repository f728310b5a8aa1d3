package main

import (
	"context"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/display"
	"github.com/pgdts/pgdts/cmd/pgdts/internal/server"
	"github.com/pgdts/pgdts/starter"
)

func (a *app) listCommand() *cobra.Command {
	var out output
	command := &cobra.Command{
		Use:   "list",
		Short: "List migrations",
		Args:  cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error {
			entries, err := a.entries(ctx)
			if err != nil {
				return err
			}
			return out.write(a, entries, func() { display.List(a.stdout, entries) })
		}),
	}
	out.flag(command)
	return command
}

// entries are those of the configured service, or of every living run.
func (a *app) entries(ctx context.Context) ([]starter.Entry, error) {
	services, err := a.services()
	if err != nil {
		return nil, err
	}
	entries := []starter.Entry{}
	for _, options := range services {
		service, err := dial(ctx, options, zap.NewNop())
		if err != nil {
			return nil, err
		}
		more, err := service.List(ctx)
		service.Close()
		if err != nil {
			return nil, err
		}
		entries = append(entries, more...)
	}
	return entries, nil
}

func (a *app) services() ([]client.Options, error) {
	options, found, err := a.configured()
	if err != nil || found {
		return []client.Options{options}, err
	}
	root, err := a.stateRoot()
	if err != nil {
		return nil, err
	}
	var services []client.Options
	for _, run := range server.Living(root) {
		services = append(services, client.Options{HostPort: run.Address, Namespace: run.Namespace})
	}
	if len(services) == 0 {
		return nil, errNoService
	}
	return services, nil
}
