// Command demo shows a whole migration on this machine, and proves it with means of its own: a source and a target are
// started on free loopback ports, three kinds of writers work on the source all the time, bin/pgdts moves the database
// and cuts over, and then both sides are compared by plain SQL and with what the writers know. It exits with 1 when
// anything differs.
//
// Environment: SCALE of the pgbench tables (default 10); KILL=1 kills pgdts with SIGKILL amid the copy and amid
// incremental and starts the same command again; KEEP=1 leaves everything up until Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// options are what the environment asks for.
type options struct {
	scale      int
	kill, keep bool
}

func readOptions() (options, error) {
	o := options{scale: 10, kill: on("KILL"), keep: on("KEEP")}
	text := os.Getenv("SCALE")
	if text == "" {
		return o, nil
	}
	scale, err := strconv.Atoi(text)
	if err != nil || scale < 1 {
		return o, fmt.Errorf("SCALE=%s: want a whole number above zero", text)
	}
	o.scale = scale
	return o, nil
}

func on(name string) bool {
	value := os.Getenv(name)
	return value != "" && value != "0"
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx))
}

// exitInterrupted is what shells expect of a program that Ctrl-C has ended.
const exitInterrupted = 130

func run(ctx context.Context) int {
	o, err := readOptions()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 2
	}
	page := newPage(os.Stdout)
	err = perform(ctx, o, page)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		page.text("")
		page.text("Interrupted: everything that the demo started has ended.")
		return exitInterrupted
	case errors.Is(err, errDifferent):
		return 1 // the verdict has said it
	}
	page.text("")
	page.trouble("demo: " + err.Error())
	return 1
}
