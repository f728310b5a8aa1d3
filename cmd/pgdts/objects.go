package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/display"
	"github.com/pgdts/pgdts/worker"
)

// objectStates are the values of --state, in the order of the listing.
var objectStates = []string{"failed", "skipped", "pending", "done"}

func (a *app) objectsCommand() *cobra.Command {
	which := choice{app: a}
	var out output
	var states []string
	command := &cobra.Command{
		Use:   "objects [ID]",
		Short: "Show every schema object: state, and why it failed or was left out (reads the ledger in the target)",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			for _, state := range states {
				if !slices.Contains(objectStates, state) {
					return &coded{exitUsage, fmt.Errorf("--state %q: want %s", state, strings.Join(objectStates, ", "))}
				}
			}
			spec, secrets, err := which.spec(ctx, arguments)
			if err != nil {
				return err
			}
			objects, err := worker.Objects(ctx, spec, secrets, states...)
			if err != nil {
				return err
			}
			return out.write(a, objects, func() { display.Objects(a.stdout, objects) })
		}),
	}
	which.flag(command)
	a.connectionsFlag(command)
	out.flag(command)
	command.Flags().StringSliceVar(&states, "state", nil, "only these: failed, skipped, pending, done")
	return command
}
