package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: a.action(func(context.Context, []string) error {
			fmt.Fprintln(a.stdout, "pgdts", version())
			return nil
		}),
	}
}
