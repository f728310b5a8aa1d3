package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/display"
	"github.com/pgdts/pgdts/worker"
)

func (a *app) tablesCommand() *cobra.Command {
	which := choice{app: a}
	var out output
	command := &cobra.Command{
		Use:   "tables [ID]",
		Short: "Show every table: stage, chunks, rows, key (reads the ledger in the target)",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			spec, secrets, err := which.spec(ctx, arguments)
			if err != nil {
				return err
			}
			tables, err := worker.Tables(ctx, spec, secrets)
			if err != nil {
				return err
			}
			return out.write(a, tables, func() { display.Tables(a.stdout, tables) })
		}),
	}
	which.flag(command)
	a.connectionsFlag(command)
	out.flag(command)
	return command
}
