package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/display"
	"github.com/pgdts/pgdts/workflows/migration"
)

func (a *app) statusCommand() *cobra.Command {
	which := choice{app: a}
	var out output
	command := &cobra.Command{
		Use:   "status [ID]",
		Short: "Show where a migration stands",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			status, err := which.status(ctx, arguments)
			if err != nil {
				return err
			}
			return out.write(a, status, func() {
				fmt.Fprintln(a.stdout, strings.Join(display.Picture(status, time.Now(), 0), "\n"))
			})
		}),
	}
	which.flag(command)
	out.flag(command)
	return command
}

// status asks Temporal; of a run that is over, the report that it left tells the end.
func (c *choice) status(ctx context.Context, arguments []string) (migration.Status, error) {
	found, err := c.find(ctx, arguments)
	if errors.Is(err, errNoService) {
		if report, saved := c.savedReport(arguments); saved {
			return ended(report), nil
		}
	}
	if err != nil {
		return migration.Status{}, err
	}
	defer found.close()
	return found.Status(ctx, found.id)
}

// ended is the status that a report implies.
func ended(r migration.Report) migration.Status {
	return migration.Status{
		ID: r.ID, Name: r.Name, State: string(r.State), Phase: r.State, Report: &r, LastError: r.Failure,
		Tables: migration.TableCounts{Total: r.Tables, Copied: r.Tables, Exact: r.Tables},
		Rows:   migration.Amount{Copied: r.Rows, Total: r.Rows}, Bytes: migration.Amount{Copied: r.Bytes, Total: r.Bytes},
		Changes: r.Changes, Types: r.Types, Actions: []string{"report", "release"},
		Objects: migration.ObjectStatus{
			Done: r.Objects.Done, Failed: r.Objects.Failed, Skipped: r.Objects.Skipped, Failures: []migration.SchemaObject{},
		},
	}
}
