package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pgdts/pgdts/tests/load"
)

// aftermath is how the application fares on the target.
type aftermath struct {
	commits int
	err     error
}

// afterFor is how long the shop is tried at its new place.
const afterFor = 2 * time.Second

// goOn lets the shop work on the target. Sequences that are behind their tables, or a trigger, a default or a right that
// is missing, would show at once. The writers' own record is not continued: its numbers are taken on the target as well.
func (d *demo) goOn(ctx context.Context) aftermath {
	uri := d.stage.target.URI(database)
	if err := execute(ctx, uri, "truncate load.audit"); err != nil {
		return aftermath{err: fmt.Errorf("write to the target: %w", err)}
	}
	shop := load.Start(ctx, load.Config{URI: uri, Clients: shopClients, Seed: 1, Pause: shopPause, Operations: shopOperations})
	select {
	case <-ctx.Done():
	case <-time.After(afterFor):
	}
	outcome := shop.Stop()
	a := aftermath{commits: outcome.Commits()}
	if len(outcome.Errors) > 0 {
		a.err = fmt.Errorf("on the target, %d transactions of the shop failed, the first: %w", len(outcome.Errors), outcome.Errors[0])
	} else if a.commits == 0 {
		a.err = fmt.Errorf("the shop could not write to the target")
	}
	return a
}

// stay leaves everything up until Ctrl-C. The Temporal server ended with pgdts; one on the same file shows its history.
func (d *demo) stay(ctx context.Context) error {
	ui := d.pgdts.ui
	port := ui[strings.LastIndexByte(ui, ':')+1:]
	log, err := os.Create(filepath.Join(d.stage.dir, "temporal-kept.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	service, err := freeAddress()
	if err != nil {
		return err
	}
	_, servicePort, _ := strings.Cut(service, ":")
	command := apart(exec.Command(temporalBinary, "server", "start-dev", "--db-filename", filepath.Join(d.pgdts.state, "temporal.db"),
		"--ip", "127.0.0.1", "--port", servicePort, "--ui-port", port))
	command.Env = environment()
	command.Stdout, command.Stderr = log, log
	server, err := startChild(command)
	if err != nil {
		return fmt.Errorf("start Temporal: %w", err)
	}
	defer server.kill()
	d.page.heading("Kept", "until Ctrl-C")
	d.page.fact("source", "psql %s", d.stage.source.URI(database))
	d.page.fact("target", "psql %s", d.stage.target.URI(database))
	d.page.fact("", "select * from dts_sync.chunk; shows the ledger; \\dn on the source shows the fence, pgdts_fence")
	d.page.fact("Temporal", "%s, or temporal workflow list --address %s", ui, service)
	d.page.fact("pgdts", "%s report -f %s --state-dir %s", pgdtsBinary, d.pgdts.definition, d.pgdts.state)
	d.page.fact("", "%s inspect -f %s --address %s", pgdtsBinary, d.pgdts.definition, service)
	d.page.fact("writes back", "%s unfence -f %s lets the source take writes again", pgdtsBinary, d.pgdts.definition)
	d.page.fact("files", "%s", d.stage.dir)
	select {
	case <-ctx.Done():
		return nil
	case <-server.exited:
		return fmt.Errorf("the Temporal server ended: see %s", strconv.Quote(log.Name()))
	}
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
