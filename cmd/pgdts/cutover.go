package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) cutoverCommand() *cobra.Command {
	which := choice{app: a}
	var wait bool
	command := &cobra.Command{
		Use:   "cutover [ID]",
		Short: "Move writes to the target: fence, drain, verify, sequences, open; any error before the opening lifts the fence",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			found, err := which.find(ctx, arguments)
			if err != nil {
				return err
			}
			defer found.close()
			if _, err := found.Cutover(ctx, found.id); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s cuts over: see `pgdts watch %s`\n", found.id, found.id.Short())
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
