package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) resumeCommand() *cobra.Command {
	which := choice{app: a}
	var ignore []string
	command := &cobra.Command{
		Use:   "resume [ID]",
		Short: "Go on after a pause, or try again what needed a person",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			found, err := which.find(ctx, arguments)
			if err != nil {
				return err
			}
			defer found.close()
			if err := found.Resume(ctx, found.id, ignore...); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s goes on\n", found.id)
			return nil
		}),
	}
	which.flag(command)
	// Not a list by commas: names of functions hold them.
	command.Flags().StringArrayVar(&ignore, "ignore", nil, "schema object to leave out, as the error or `pgdts objects` names it, or by number (repeatable)")
	return command
}
