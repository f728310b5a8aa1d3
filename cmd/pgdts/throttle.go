package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgdts/pgdts/workflows/migration"
)

func (a *app) throttleCommand() *cobra.Command {
	which := choice{app: a}
	var asked migration.Throttle
	var flags *pflag.FlagSet
	command := &cobra.Command{
		Use:   "throttle [ID]",
		Short: "Change the rates of a running migration, over all its workers; 0 takes a cap away",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			change := throttleChange(flags, &asked)
			if change == (migration.ThrottleChange{}) {
				return &coded{exitUsage, fmt.Errorf("throttle: give a rate, such as --full-mb 20 or --incremental-rows 0")}
			}
			found, err := which.find(ctx, arguments)
			if err != nil {
				return err
			}
			defer found.close()
			rates, err := found.Throttle(ctx, found.id, change)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s: %s\n", found.id, ratesText(rates))
			return nil
		}),
	}
	which.flag(command)
	flags = command.Flags()
	flags.Float64Var(&asked.Full.QueriesPerSecond, "full-queries", 0, "statements per second that read rows from the source for the copy")
	flags.Float64Var(&asked.Full.RowsPerSecond, "full-rows", 0, "rows per second of the copy")
	flags.Float64Var(&asked.Full.MegabytesPerSecond, "full-mb", 0, "megabytes (of 1,000,000 bytes) per second of the copy")
	flags.Float64Var(&asked.Incremental.RowsPerSecond, "incremental-rows", 0, "changes of rows per second")
	flags.Float64Var(&asked.Incremental.MegabytesPerSecond, "incremental-mb", 0, "megabytes per second of changes")
	return command
}

// throttleChange names the rates whose flags were given, 0 too.
func throttleChange(flags *pflag.FlagSet, asked *migration.Throttle) migration.ThrottleChange {
	given := func(flag string, rate *float64) *float64 {
		if flags.Changed(flag) {
			return rate
		}
		return nil
	}
	var change migration.ThrottleChange
	full := migration.FullThrottleChange{
		QueriesPerSecond:   given("full-queries", &asked.Full.QueriesPerSecond),
		RowsPerSecond:      given("full-rows", &asked.Full.RowsPerSecond),
		MegabytesPerSecond: given("full-mb", &asked.Full.MegabytesPerSecond),
	}
	if full != (migration.FullThrottleChange{}) {
		change.Full = &full
	}
	incremental := migration.IncrementalThrottleChange{
		RowsPerSecond:      given("incremental-rows", &asked.Incremental.RowsPerSecond),
		MegabytesPerSecond: given("incremental-mb", &asked.Incremental.MegabytesPerSecond),
	}
	if incremental != (migration.IncrementalThrottleChange{}) {
		change.Incremental = &incremental
	}
	return change
}

// ratesText lists the caps that hold.
func ratesText(t migration.Throttle) string {
	var parts []string
	for _, rate := range []struct {
		value float64
		text  string
	}{
		{t.Full.QueriesPerSecond, "full: queries/s"},
		{t.Full.RowsPerSecond, "full: rows/s"},
		{t.Full.MegabytesPerSecond, "full: MB/s"},
		{t.Incremental.RowsPerSecond, "incremental: rows/s"},
		{t.Incremental.MegabytesPerSecond, "incremental: MB/s"},
	} {
		if rate.value > 0 {
			kind, unit, _ := strings.Cut(rate.text, ": ")
			parts = append(parts, kind+" "+strconv.FormatFloat(rate.value, 'f', -1, 64)+" "+unit)
		}
	}
	if parts == nil {
		return "no throttle"
	}
	return strings.Join(parts, ", ")
}
