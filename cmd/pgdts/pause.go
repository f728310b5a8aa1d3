package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) pauseCommand() *cobra.Command {
	which := choice{app: a}
	command := &cobra.Command{
		Use:   "pause [ID]",
		Short: "Stop working until `pgdts resume`; the slot stays and keeps WAL on the source (only with type incremental)",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			found, err := which.find(ctx, arguments)
			if err != nil {
				return err
			}
			defer found.close()
			if err := found.Pause(ctx, found.id); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s pauses: the slot keeps WAL on the source until it is resumed\n", found.id)
			return nil
		}),
	}
	which.flag(command)
	return command
}
