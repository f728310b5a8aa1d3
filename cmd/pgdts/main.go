// Command pgdts moves a live PostgreSQL database to another server. Each sub-command has a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pgdts/pgdts/starter/definition"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2 // bad definition or usage
	exitPrecheck    = 3
	exitDifferent   = 4 // verification found differences
	exitInterrupted = 130
)

// coded is an error with an exit code. Without a message, everything has been said already.
type coded struct {
	code int
	err  error
}

func (c *coded) Error() string {
	if c.err == nil {
		return ""
	}
	return c.err.Error()
}

func (c *coded) Unwrap() error { return c.err }

func main() {
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

func execute(arguments []string, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr}
	ctx, stop := a.interruptible()
	defer stop()
	root := a.root()
	root.SetArgs(arguments)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if message := oneSentence(err); message != "" {
		fmt.Fprintf(stderr, "pgdts: %s\n", message)
	}
	return a.exitCode(err, context.Cause(ctx))
}

func oneSentence(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}

func (a *app) exitCode(err, cause error) int {
	var withCode *coded
	var bad *definition.Error
	var wrong *migration.DefinitionError
	switch {
	case errors.As(err, &withCode):
		return withCode.code
	case errors.As(err, &bad), errors.As(err, &wrong), !a.ran:
		return exitUsage // an error from before a sub-command ran is cobra's: a flag, an argument, a name
	case cause != nil:
		return exitInterrupted
	}
	return exitFailed
}

// app is what all sub-commands share.
type app struct {
	stdout, stderr io.Writer
	ran            bool

	stateDir, logLevel          string
	connections                 string
	address, namespace, profile string
}

// interruptible ends its context at the first Ctrl-C, SIGTERM or hang-up, so that work in hand is finished; the second
// ends the process at once.
func (a *app) interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() { // ends with the process
		<-signals
		cancel(errInterrupted)
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, func() { signal.Stop(signals) }
}

var errInterrupted = errors.New("interrupted")

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "pgdts",
		Short:         "Moves a live PostgreSQL database to another server, without losing a row and almost without downtime",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.stateDir, "state-dir", "", "directory of the state of run (default: one per migration under $XDG_STATE_HOME/pgdts)")
	flags.StringVar(&a.logLevel, "log-level", "", "log to stderr from this level on: debug, info, warn, error")
	flags.StringVar(&a.address, "address", "", "host:port of the Temporal service (default: $TEMPORAL_ADDRESS, the profile, or a living run)")
	flags.StringVar(&a.namespace, "namespace", "", "Temporal namespace (default: $TEMPORAL_NAMESPACE, the profile, or \"default\")")
	flags.StringVar(&a.profile, "profile", "", "profile of Temporal's configuration file (default: $TEMPORAL_PROFILE)")
	root.AddCommand(
		a.runCommand(), a.workerCommand(), a.startCommand(), a.checkCommand(), a.previewCommand(),
		a.statusCommand(), a.watchCommand(), a.listCommand(), a.tablesCommand(), a.objectsCommand(), a.reportCommand(), a.inspectCommand(),
		a.cutoverCommand(), a.stopCommand(), a.pauseCommand(), a.resumeCommand(), a.recheckCommand(), a.retryCommand(), a.throttleCommand(),
		a.releaseCommand(), a.unfenceCommand(), a.versionCommand(),
	)
	return root
}

// action marks that a sub-command has begun, so that errors before it are known as wrong usage.
func (a *app) action(do func(ctx context.Context, arguments []string) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, arguments []string) error {
		a.ran = true
		return do(command.Context(), arguments)
	}
}

// version is the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return "devel-" + setting.Value[:min(len(setting.Value), 12)]
		}
	}
	return "devel"
}
