package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgdts/pgdts/workflows/migration"
)

func (a *app) retryCommand() *cobra.Command {
	which := choice{app: a}
	var connection, other time.Duration
	command := &cobra.Command{
		Use:   "retry [ID]",
		Short: "Change the retry windows of a running migration, an outage that runs included",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			if connection == 0 && other == 0 {
				return &coded{exitUsage, fmt.Errorf("retry: give --connection, --other or both")}
			}
			found, err := which.find(ctx, arguments)
			if err != nil {
				return err
			}
			defer found.close()
			windows, err := found.Retry(ctx, found.id, migration.RetryWindows{
				Connection: migration.Duration(connection), Other: migration.Duration(other),
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s: retry.connection %s, retry.other %s\n", found.id, windows.Connection, windows.Other)
			return nil
		}),
	}
	which.flag(command)
	command.Flags().DurationVar(&connection, "connection", 0, "10m to 1440m: how long a server may be away")
	command.Flags().DurationVar(&other, "other", 0, "1m to 1440m, less than connection: how long other errors may last")
	return command
}
