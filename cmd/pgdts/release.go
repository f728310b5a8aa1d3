package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/server"
	"github.com/pgdts/pgdts/starter"
	"github.com/pgdts/pgdts/worker"
	"github.com/pgdts/pgdts/workflows/migration"
)

func (a *app) releaseCommand() *cobra.Command {
	which := choice{app: a}
	command := &cobra.Command{
		Use:   "release [ID]",
		Short: "End a migration and remove every trace of it; with -f FILE also when Temporal is gone",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			found, err := which.find(ctx, arguments)
			if err == nil {
				defer found.close()
				if handled, err := a.releaseRunning(ctx, found); handled || err != nil {
					return err
				}
			}
			return a.releaseHere(ctx, &which, arguments)
		}),
	}
	which.flag(command)
	a.connectionsFlag(command)
	return command
}

// releaseRunning lets the workflow end what it does and clean up. It reports false where no workflow runs, or nobody
// serves it: then the work is done from here.
func (a *app) releaseRunning(ctx context.Context, found *chosen) (bool, error) {
	status, err := found.Status(ctx, found.id)
	var unknown *starter.UnknownError
	if errors.As(err, &unknown) || err == nil && status.Phase.Ended() {
		return false, nil
	}
	if err != nil {
		return false, err // it may be running: nobody else may take its slot away
	}
	if err := found.Release(ctx, found.id); err != nil {
		return false, err
	}
	if status.WorkerAway {
		return false, nil
	}
	report, err := found.Wait(ctx, found.id)
	if ctx.Err() != nil {
		return true, ctx.Err()
	}
	if err != nil {
		return true, err
	}
	fmt.Fprintf(a.stdout, "%s is released\n", found.id)
	for _, note := range report.Notes {
		fmt.Fprintln(a.stdout, note)
	}
	return true, nil
}

// releaseHere removes the traces from this process.
func (a *app) releaseHere(ctx context.Context, which *choice, arguments []string) error {
	spec, secrets, err := which.spec(ctx, arguments)
	if err != nil {
		return err
	}
	logger, err := a.logger(zapcore.WarnLevel)
	if err != nil {
		return err
	}
	owed, err := worker.Release(ctx, spec, secrets, logger)
	if err != nil {
		return err
	}
	if err := a.forget(spec.ID); err != nil {
		return err
	}
	if len(owed) == 0 {
		fmt.Fprintf(a.stdout, "%s is released\n", spec.ID)
		return nil
	}
	for _, rest := range owed {
		fmt.Fprintln(a.stdout, rest)
	}
	return &coded{exitFailed, fmt.Errorf("release %s: not all could be removed; the rest is listed above", spec.ID)}
}

// forget drops the history that a run of this migration kept here, which speaks of a slot and a ledger that are gone.
func (a *app) forget(id migration.ID) error {
	path, exists, err := a.stateDirectory(id)
	if err != nil || !exists {
		return err
	}
	directory, err := server.Open(path, id, version())
	var held *server.HeldError
	if errors.As(err, &held) {
		return nil // the run that is alive has heard of it
	}
	if err != nil {
		return err
	}
	return errors.Join(directory.Forget(), directory.Close())
}
