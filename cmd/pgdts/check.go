package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/display"
	"github.com/pgdts/pgdts/starter/definition"
	"github.com/pgdts/pgdts/worker"
)

func (a *app) checkCommand() *cobra.Command {
	var file string
	var ignore []string
	var out output
	command := &cobra.Command{
		Use:   "check -f FILE",
		Short: "Test both servers and run the precheck only; changes nothing",
		Args:  cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error {
			spec, typed, err := definition.Load(file)
			if err != nil {
				return err
			}
			secrets, err := a.secrets(typed)
			if err != nil {
				return err
			}
			spec.Precheck.Ignore = append(spec.Precheck.Ignore, ignore...)
			logger, err := a.logger(zapcore.WarnLevel)
			if err != nil {
				return err
			}
			result, err := worker.Check(ctx, spec, secrets, logger)
			if err != nil {
				return err
			}
			if err := out.write(a, result, func() { display.Check(a.stdout, result) }); err != nil {
				return err
			}
			if blocking := result.Blocking(); len(blocking) > 0 {
				return &coded{exitPrecheck, fmt.Errorf("precheck of %s: %s: %s", spec.Name, blocking[0].Code, blocking[0].Found)}
			}
			return nil
		}),
	}
	out.flag(command)
	a.connectionsFlag(command)
	command.Flags().StringVarP(&file, "file", "f", "", "definition file")
	command.Flags().StringSliceVar(&ignore, "ignore", nil, "codes of ignorable alerts that must not block")
	_ = command.MarkFlagRequired("file")
	return command
}
