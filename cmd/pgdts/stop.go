package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) stopCommand() *cobra.Command {
	which := choice{app: a}
	var wait bool
	command := &cobra.Command{
		Use:   "stop [ID]",
		Short: "End a migration: in incremental drained to now, before abandoned; removes what it made on the source",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			found, err := which.find(ctx, arguments)
			if err != nil {
				return err
			}
			defer found.close()
			if err := found.Stop(ctx, found.id); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s stops\n", found.id)
			if !wait {
				return nil
			}
			return a.follow(ctx, found.connection, found.id)
		}),
	}
	which.flag(command)
	command.Flags().BoolVar(&wait, "wait", false, "exit when it has ended")
	return command
}
