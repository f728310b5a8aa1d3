package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/pgdts/pgdts/worker"
)

func (a *app) unfenceCommand() *cobra.Command {
	which := choice{app: a}
	command := &cobra.Command{
		Use:   "unfence [ID]",
		Short: "Let writes back onto a source that a cutover closed",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			spec, secrets, err := which.spec(ctx, arguments)
			if err != nil {
				return err
			}
			logger, err := a.logger(zapcore.WarnLevel)
			if err != nil {
				return err
			}
			lifted, err := worker.Unfence(ctx, spec, secrets, logger)
			if err != nil {
				return err
			}
			for _, object := range lifted {
				fmt.Fprintln(a.stdout, object)
			}
			fmt.Fprintf(a.stdout, "%s takes writes again\n", spec.Source.Address())
			return nil
		}),
	}
	which.flag(command)
	a.connectionsFlag(command)
	return command
}
