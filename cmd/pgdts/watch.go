package main

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) watchCommand() *cobra.Command {
	which := choice{app: a}
	command := &cobra.Command{
		Use:   "watch [ID]",
		Short: "Show progress until the migration ends; exits as `run` would",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			found, err := which.find(ctx, arguments)
			if err != nil {
				return err
			}
			defer found.close()
			return a.follow(ctx, found.connection, found.id)
		}),
	}
	which.flag(command)
	return command
}
