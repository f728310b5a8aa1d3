package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgdts/pgdts/starter/definition"
)

func (a *app) startCommand() *cobra.Command {
	var file, queue string
	var wait bool
	command := &cobra.Command{
		Use:   "start -f FILE",
		Short: "Start a migration on a Temporal service and print its id",
		Args:  cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error {
			spec, err := definition.LoadForStart(file)
			if err != nil {
				return err
			}
			if queue != "" {
				spec.TaskQueue = queue
			}
			service, err := a.connect(ctx, "")
			if err != nil {
				return err
			}
			defer service.Close()
			id, err := service.Start(ctx, spec)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, id)
			if !wait {
				return nil
			}
			return a.follow(ctx, service, id)
		}),
	}
	command.Flags().StringVarP(&file, "file", "f", "", "definition file")
	command.Flags().StringVar(&queue, "task-queue", "", "task queue of the workers (default: the definition's, or \"pgdts\")")
	command.Flags().BoolVar(&wait, "wait", false, "show progress and exit when the migration ends")
	_ = command.MarkFlagRequired("file")
	return command
}
