package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) recheckCommand() *cobra.Command {
	which := choice{app: a}
	var ignore []string
	command := &cobra.Command{
		Use:   "recheck [ID]",
		Short: "Run the precheck again where it waits, ignoring ignorable alerts",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			found, err := which.find(ctx, arguments)
			if err != nil {
				return err
			}
			defer found.close()
			if err := found.Recheck(ctx, found.id, ignore); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s checks again\n", found.id)
			return nil
		}),
	}
	which.flag(command)
	command.Flags().StringSliceVar(&ignore, "ignore", nil, "codes of ignorable alerts that must not block")
	return command
}
