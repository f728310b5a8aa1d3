package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/display"
	"github.com/pgdts/pgdts/starter"
	"github.com/pgdts/pgdts/worker"
	"github.com/pgdts/pgdts/workflows/migration"
)

func (a *app) reportCommand() *cobra.Command {
	which := choice{app: a}
	var out output
	command := &cobra.Command{
		Use:   "report [ID]",
		Short: "Show the evidence that a migration left, or what there is so far",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			report, err := which.report(ctx, arguments)
			if err != nil {
				return err
			}
			return out.write(a, report, func() { display.Report(a.stdout, report) })
		}),
	}
	which.flag(command)
	a.connectionsFlag(command)
	out.flag(command)
	return command
}

// report comes from the migration's end, from the state directory of a run that is over, or from the ledger.
func (c *choice) report(ctx context.Context, arguments []string) (migration.Report, error) {
	found, err := c.find(ctx, arguments)
	var unknown *starter.UnknownError
	if errors.Is(err, errNoService) || errors.As(err, &unknown) {
		if report, saved := c.savedReport(arguments); saved {
			return report, nil
		}
	}
	if err == nil {
		defer found.close()
		if over, err := found.Ended(ctx, found.id); err == nil && over {
			report, err := found.Wait(ctx, found.id)
			return completed(report, err, found.id), ctx.Err()
		}
	}
	spec, secrets, err := c.spec(ctx, arguments)
	if err != nil {
		return migration.Report{}, err
	}
	return worker.Report(ctx, spec, secrets)
}
