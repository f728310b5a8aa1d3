package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// errDifferent says that the migration ended and the two sides are not the same.
var errDifferent = errors.New("source and target differ")

// demo is one performance.
type demo struct {
	options
	page     *page
	began    time.Time
	stage    *stage
	writers  *writers
	pgdts    *pgdts
	kills    []kill
	inFlight int // chunks that were being copied when pgdts was killed
}

// perform plays the parts in order. Everything that it starts has ended when it returns.
func perform(ctx context.Context, o options, page *page) (err error) {
	d := &demo{options: o, page: page, began: time.Now()}
	for _, binary := range []string{pgdtsBinary, temporalBinary} {
		if _, err := os.Stat(binary); err != nil {
			return fmt.Errorf("%s is missing: `make demo` builds it", binary)
		}
	}
	page.text(page.paint(bold, "pgdts demo") + ": a database moves to another server while it is written to")
	if err := d.raise(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stage.strike(), d.tidy(err, ctx.Err())) }()
	d.writers = d.stage.startWriters(ctx)
	defer d.writers.stop()
	page.fact("writers", "pgbench with %d clients, %d transactions a second; the shop with %d clients: orders, stock, keys,", benchClients, benchRate, shopClients)
	page.fact("", "swaps of unique values, large values, moves between partitions, savepoints, two-phase commits")
	defer d.exitPgdts()
	if err := d.migrate(ctx); err != nil {
		return err
	}
	return d.prove(ctx)
}

func (d *demo) raise(ctx context.Context) (err error) {
	d.page.heading("Before", "two servers, and a database with users")
	if d.stage, err = raise(ctx); err != nil {
		return err
	}
	if err = d.stage.fill(ctx, d.scale); err == nil {
		err = d.raised(ctx, d.began)
	}
	if err != nil {
		return errors.Join(err, d.stage.strike())
	}
	return nil
}

// tidy removes the demo's files, unless they tell why it went wrong.
func (d *demo) tidy(failure, interrupted error) error {
	if failure == nil || interrupted != nil {
		return os.RemoveAll(d.stage.dir)
	}
	d.page.text("")
	d.page.fact("files", "%s has the logs: state/run.log, state/temporal.log, pgbench.out", d.stage.dir)
	return nil
}

// migrate runs pgdts to its end, with its cutover.
func (d *demo) migrate(ctx context.Context) error {
	definition, err := d.stage.define()
	if err != nil {
		return err
	}
	d.pgdts = newPgdts(definition, filepath.Join(d.stage.dir, "state"), d.stage.target.URI(database))
	d.page.heading("Migration", d.announcement())
	if err := d.launch(); err != nil {
		return err
	}
	observer := observe(ctx, d.pgdts)
	defer observer.stop()
	if d.kill {
		if err := d.killOnTheWay(ctx); err != nil {
			return err
		}
	}
	if err := d.pgdts.await(ctx, "caught up", steadily(steadyFor)); err != nil {
		return err
	}
	if err := d.pgdts.cutover(ctx); err != nil {
		return err
	}
	return d.pgdts.awaitEnd(ctx)
}

// steadyFor is how long the migration is to be caught up before something is done to it.
const steadyFor = 4 * time.Second

func (d *demo) announcement() string {
	if d.kill {
		return "pgdts is killed twice on the way; when it has caught up, `pgdts cutover` is called beside it"
	}
	return "when it has caught up, `pgdts cutover` is called beside it"
}

// launch shows and starts the command. Its display has the terminal to itself until it ends.
func (d *demo) launch() error {
	d.page.command(d.pgdts.line())
	d.page.text("")
	return d.pgdts.run()
}

// exitPatience is how long pgdts may take to drain after Ctrl-C, which reached it as it reached us.
const exitPatience = 15 * time.Second

func (d *demo) exitPgdts() {
	if d.pgdts != nil {
		d.pgdts.end(exitPatience)
	}
}

// prove compares, lets the shop go on at its new place, and tells everything.
func (d *demo) prove(ctx context.Context) error {
	d.page.heading("Proof", "by SQL and records of our own")
	known, err := d.writers.testify()
	if err != nil {
		return err
	}
	c, err := compare(ctx, d.stage.source.Binaries.Path("pg_dump"), d.stage.source.URI(database), d.stage.target.URI(database))
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	conn, err := pgx.Connect(ctx, d.stage.target.URI(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	c.differences = append(c.differences, known.check(ctx, conn)...)
	opened, err := d.pgdts.opened(ctx)
	if err != nil {
		return err
	}
	report, err := d.pgdts.report(ctx)
	if err != nil {
		return err
	}
	if d.kill && report.Recopied > int64(d.inFlight) {
		c.differences = append(c.differences, fmt.Sprintf("chunks: %d were copied again, though %d were in flight at the kill", report.Recopied, d.inFlight))
	}
	after := d.goOn(ctx)
	d.summarise(ending{report, known, c, opened, after})
	if d.keep {
		if err := d.stay(ctx); err != nil {
			return err
		}
	}
	if len(c.differences) > 0 {
		return errDifferent
	}
	return after.err
}
