package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgdts/pgdts/starter"
	"github.com/pgdts/pgdts/starter/definition"
	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
)

func (a *app) previewCommand() *cobra.Command {
	var file string
	var out output
	command := &cobra.Command{
		Use:   "preview -f FILE",
		Short: "Print the resolved definition (the workflow's input) and the equal `temporal workflow start` command",
		Args:  cobra.NoArgs,
		RunE: a.action(func(context.Context, []string) error {
			spec, secrets, err := definition.Load(file)
			if err != nil {
				return err
			}
			if secrets != nil {
				fmt.Fprintln(a.stderr, "pgdts: the password in the URI is left out: only `run` takes it; for `start` use passwordFrom.env")
			}
			preview, err := previewOf(spec)
			if err != nil {
				return err
			}
			return out.write(a, preview, func() {
				fmt.Fprintf(a.stdout, "%s\n\n%s\n", preview.pretty, preview.Command)
			})
		}),
	}
	out.flag(command)
	command.Flags().StringVarP(&file, "file", "f", "", "definition file")
	_ = command.MarkFlagRequired("file")
	return command
}

// preview is the workflow's input, and the command that starts it.
type preview struct {
	workflows.Input
	Command string `json:"command"`

	pretty []byte
}

func previewOf(spec migration.Spec) (preview, error) {
	p := preview{Input: workflows.Input{Spec: spec}}
	compact, err := json.Marshal(p.Input)
	if err != nil {
		return p, fmt.Errorf("preview: %w", err)
	}
	p.Command = fmt.Sprintf("temporal workflow start --type %s --task-queue %s --workflow-id %s --input %s",
		workflows.MigrationName, shell(starter.TaskQueue(spec)), shell(string(spec.ID)), shell(string(compact)))
	p.pretty, err = json.MarshalIndent(p.Input, "", "  ")
	return p, err
}

// shell quotes an argument for a POSIX shell.
func shell(argument string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:", r)
	}
	if argument != "" && strings.TrimFunc(argument, plain) == "" {
		return argument
	}
	return "'" + strings.ReplaceAll(argument, "'", `'\''`) + "'"
}
