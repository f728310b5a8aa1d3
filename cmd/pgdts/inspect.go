package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"
	"go.yaml.in/yaml/v3"

	"github.com/pgdts/pgdts/worker"
	"github.com/pgdts/pgdts/workflows/migration"
)

// inspection is what workflow, ledger and slot each believe.
type inspection struct {
	Workflow      *migration.Status `json:"workflow"`
	WorkflowError string            `json:"workflowError,omitempty"`
	Databases     any               `json:"databases"`
}

func (a *app) inspectCommand() *cobra.Command {
	which := choice{app: a}
	var out output
	command := &cobra.Command{
		Use:   "inspect [ID]",
		Short: "Show side by side what the ledger, the slot and the workflow each believe",
		RunE: a.action(func(ctx context.Context, arguments []string) error {
			spec, secrets, err := which.spec(ctx, arguments)
			if err != nil {
				return err
			}
			logger, err := a.logger(zapcore.WarnLevel)
			if err != nil {
				return err
			}
			var seen inspection
			if status, err := which.status(ctx, arguments); err != nil {
				seen.WorkflowError = err.Error()
			} else {
				seen.Workflow = &status
			}
			if seen.Databases, err = worker.Inspect(ctx, spec, secrets, logger); err != nil {
				return err
			}
			return out.write(a, seen, func() { a.writeOutline(seen) })
		}),
	}
	which.flag(command)
	a.connectionsFlag(command)
	out.flag(command)
	return command
}

// writeOutline renders any value as indented text: YAML made of its JSON.
func (a *app) writeOutline(value any) {
	content, err := jsonAsYAML(value)
	if err != nil {
		fmt.Fprintf(a.stderr, "pgdts: inspect: %v\n", err)
		return
	}
	_, _ = a.stdout.Write(content) // a closed pipe ends the command anyway
}

func jsonAsYAML(value any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return nil, err
	}
	block(&node)
	return yaml.Marshal(&node)
}

// block drops the braces and quotes of JSON.
func block(node *yaml.Node) {
	node.Style = 0
	for _, child := range node.Content {
		block(child)
	}
}
