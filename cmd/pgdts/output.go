package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// output is the -o flag of commands whose answer a program may read.
type output struct{ format string }

func (o *output) flag(command *cobra.Command) {
	command.Flags().StringVarP(&o.format, "output", "o", "text", "text or json")
	command.PreRunE = func(*cobra.Command, []string) error {
		if o.format != "text" && o.format != "json" {
			return fmt.Errorf("-o %q: want text or json", o.format)
		}
		return nil
	}
}

func (o *output) json() bool { return o.format == "json" }

// write gives the value as JSON, or lets text render it.
func (o *output) write(a *app, value any, text func()) error {
	if !o.json() {
		text()
		return nil
	}
	encoder := json.NewEncoder(a.stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// terminal reports whether progress is watched by a person, and how wide the screen is.
func (a *app) terminal() (width int, ok bool) {
	file, isFile := a.stderr.(*os.File)
	if !isFile || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		width = 80
	}
	return width, true
}
