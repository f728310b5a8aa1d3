package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/display"
	"github.com/pgdts/pgdts/cmd/pgdts/internal/server"
	"github.com/pgdts/pgdts/starter/definition"
	"github.com/pgdts/pgdts/worker"
	"github.com/pgdts/pgdts/workflows/migration"
)

func (a *app) runCommand() *cobra.Command {
	r := runner{app: a}
	command := &cobra.Command{
		Use:   "run -f FILE",
		Short: "Carry out a whole migration from this process; the same command resumes",
		Args:  cobra.NoArgs,
		RunE:  a.action(func(ctx context.Context, _ []string) error { return r.run(ctx) }),
	}
	flags := command.Flags()
	flags.StringVarP(&r.file, "file", "f", "", "definition file")
	flags.StringVar(&r.cutover, "cutover", "", "auto or manual; overrides the file")
	flags.BoolVar(&r.again, "again", false, "begin anew where the migration has ended already")
	r.app.connectionsFlag(command)
	_ = command.MarkFlagRequired("file")
	return command
}

// runner is one `run`.
type runner struct {
	app     *app
	file    string
	cutover string
	again   bool

	spec      migration.Spec
	secrets   *migration.Secrets
	reclassed bool // the file names another class than the migration began with
	orders    bool // the workflow began with cutover.mode manual, and this run is to order the cutover
	unwatched bool // nobody is at a terminal, so a schema object that fails cannot wait for a person

	directory *server.Directory
	logger    *zap.Logger
	service   *connection
	embedded  *server.Server // nil with a configured service
	screen    *screen
}

// run takes the state directory, finds or starts a Temporal service, serves the migration's task queue, starts or
// resumes the migration, and shows it to its end.
func (r *runner) run(ctx context.Context) (err error) {
	if err := r.define(); err != nil {
		return err
	}
	path, _, err := r.app.stateDirectory(r.spec.ID)
	if err != nil {
		return err
	}
	if r.directory, err = server.Open(path, r.spec.ID, version()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.directory.Close()) }()
	if over, err := r.overByReport(); over {
		return err
	}
	logger, file, err := r.app.runLogger(r.directory.Path(server.LogFile))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	r.logger = logger
	if err := r.connect(ctx); err != nil {
		return err
	}
	defer r.disconnect()
	return r.serve(ctx)
}

func (r *runner) define() error {
	spec, typed, err := definition.Load(r.file)
	if err != nil {
		return err
	}
	secrets, err := r.app.secrets(typed)
	if err != nil {
		return err
	}
	switch r.cutover {
	case "":
	case "auto", "manual":
		spec.Cutover.Mode = r.cutover
	default:
		return &coded{exitUsage, fmt.Errorf("--cutover %q: want auto or manual", r.cutover)}
	}
	if _, watched := r.app.terminal(); !watched && spec.Schema.OnObjectFailure == "wait" {
		spec.Schema.OnObjectFailure, r.unwatched = "fail", true
	}
	if spec.TaskQueue == "" {
		spec.TaskQueue = "pgdts-" + spec.ID.Short()
	}
	r.spec, r.secrets = spec, secrets
	return nil
}

// stateDirectory is where the state of a migration is kept, and whether there is any.
func (a *app) stateDirectory(id migration.ID) (string, bool, error) {
	path := a.stateDir
	if path == "" {
		root, err := server.Root()
		if err != nil {
			return "", false, err
		}
		path = filepath.Join(root, id.Short())
	}
	_, err := os.Stat(path)
	return path, err == nil, nil
}

// connect takes the configured service, or starts one on the state directory's file.
func (r *runner) connect(ctx context.Context) error {
	options, found, err := r.app.configured()
	if err != nil {
		return err
	}
	if !found {
		if r.embedded, err = r.directory.Start(ctx); err != nil {
			return err
		}
		options = client.Options{HostPort: r.embedded.Address, Namespace: server.Namespace}
	}
	if r.service, err = dial(ctx, options, r.logger); err != nil {
		r.disconnect()
		return err
	}
	if found {
		return r.directory.Publish(options.HostPort, options.Namespace)
	}
	return nil
}

func (r *runner) disconnect() {
	if r.service != nil {
		r.service.Close()
	}
	if r.embedded != nil {
		r.embedded.Stop()
	}
}

// serve runs the worker beside the migration, and ends it when the migration has ended or a person interrupts.
func (r *runner) serve(ctx context.Context) error {
	if err := r.kick(ctx); err != nil {
		return err
	}
	group, working := errgroup.WithContext(ctx)
	working, endWork := context.WithCancel(working)
	defer endWork()
	group.Go(func() error { return worker.Run(working, r.workerConfig()) })
	group.Go(func() error { return r.guardServer(working) })
	var outcome error
	group.Go(func() error {
		defer endWork()
		outcome = r.migrate(working)
		if ctx.Err() != nil {
			fmt.Fprintln(r.app.stderr, "\nFinishing what is in hand; Ctrl-C again ends at once.")
		}
		return nil
	})
	err := group.Wait()
	if ctx.Err() != nil {
		return r.interrupted()
	}
	if err != nil {
		return err
	}
	return outcome
}

// embeddedThrottle is how late an order reaches a running step at most. A service of our own on this machine does not
// go away for seconds and come back, against which a longer one protects.
const embeddedThrottle = 5 * time.Second

func (r *runner) workerConfig() worker.Config {
	config := worker.Config{
		Client: r.service.Client, TaskQueue: r.spec.TaskQueue, Logger: r.logger, Secrets: r.secrets, Observe: r.service.Observe,
	}
	if r.embedded != nil {
		config.HeartbeatThrottle = embeddedThrottle
	}
	return config
}

// kick makes a resumed migration go on at once. Only under our own lock: on a shared service another worker may live.
func (r *runner) kick(ctx context.Context) error {
	if r.embedded == nil {
		return nil
	}
	ended, err := r.service.Ended(ctx, r.spec.ID)
	if ended || isUnknown(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.service.Kick(ctx, r.service.namespace, r.spec.ID)
}

// guardServer fails the run when its Temporal service ends by itself.
func (r *runner) guardServer(ctx context.Context) error {
	if r.embedded == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-r.embedded.Ended():
		return fmt.Errorf("the Temporal service of this run ended by itself: see %s, then run again to resume", r.directory.Path("temporal.log"))
	}
}

// migrate starts or resumes, watches, and concludes.
func (r *runner) migrate(ctx context.Context) error {
	if over, err := r.begin(ctx); over || err != nil {
		return err
	}
	footer := ""
	if r.embedded != nil {
		footer = "Temporal UI: " + r.embedded.UI
	}
	r.screen = r.app.newScreen(footer)
	if err := r.screen.watch(ctx, r.service.Starter, r.spec.ID, r.orderCutover(ctx)); err != nil {
		return err
	}
	report, err := r.service.Wait(ctx, r.spec.ID)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	report = completed(report, err, r.spec.ID)
	return errors.Join(r.save(report), r.app.conclude(report, r.screen.status().Precheck))
}

func (r *runner) save(report migration.Report) error {
	content, err := json.MarshalIndent(report, "", "  ")
	if err == nil {
		err = server.WriteFile(r.directory.Path(server.ReportFile), append(content, '\n'))
	}
	if err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	return nil
}

// interrupted tells what is left behind, and how to go on or to give up.
func (r *runner) interrupted() error {
	if r.screen == nil || r.screen.status().Phase.Ended() {
		return &coded{exitInterrupted, nil}
	}
	fmt.Fprintf(r.app.stderr, "Interrupted. The same command goes on where this one ended.\n")
	phase := r.screen.status().Phase
	switch {
	case phase == migration.PhasePrecheck:
	case !r.spec.Has(migration.TypeIncremental):
		if r.spec.Has(migration.TypeFull) {
			fmt.Fprintf(r.app.stderr, "The snapshot of the copy has ended with it: an unfinished copy begins again.\n")
		}
		fmt.Fprintf(r.app.stderr, "To give up: %s\n", r.releaseCommand())
	case phase == "":
		fmt.Fprintf(r.app.stderr, "Slot %s may keep WAL on the source until then. To give up and drop it: %s\n", r.spec.ID.Slot(), r.releaseCommand())
	default:
		fmt.Fprintf(r.app.stderr, "Slot %s keeps WAL on the source until then. To give up and drop it: %s\n", r.spec.ID.Slot(), r.releaseCommand())
	}
	return &coded{exitInterrupted, nil}
}

func (r *runner) releaseCommand() string {
	return "pgdts release -f " + shell(r.file) + r.stateDirFlag()
}

func (r *runner) stateDirFlag() string {
	if r.app.stateDir == "" {
		return ""
	}
	return " --state-dir " + shell(r.app.stateDir)
}

// overByReport answers from the report that an earlier run left, without a service.
func (r *runner) overByReport() (bool, error) {
	report, err := readReport(r.directory.Path(server.ReportFile))
	if err != nil || report.ID != r.spec.ID || r.again || beginsAnew(report) {
		return false, nil //nolint:nilerr // without a report that can be read, the workflow is asked
	}
	return true, r.tellOver(report)
}

// beginsAnew reports whether a migration that ended made nothing, so that a corrected definition may simply be run.
func beginsAnew(report migration.Report) bool {
	return report.State == migration.PhaseFailed && report.Failure != nil &&
		(report.Failure.Kind == migration.FaultPrecheck || report.Failure.Kind == migration.FaultInvalid)
}

// tellOver shows how the migration ended. Running it again has touched nothing.
func (r *runner) tellOver(report migration.Report) error {
	display.Report(r.app.stdout, report)
	if report.State != migration.PhaseFailed {
		return nil
	}
	cause := "for a reason that its report does not tell"
	if report.Failure != nil {
		cause = report.Failure.Error()
	}
	return &coded{exitFailed, fmt.Errorf("the migration has failed: %s: `pgdts run -f %s%s --again` begins anew", cause, shell(r.file), r.stateDirFlag())}
}
