// Command benchcdc measures how fast a backlog of changes is replayed, against what else there is, on servers of its own
// that share all settings:
//
//	go run ./activities/internal/follow/benchcdc --transactions 200000 --rounds 3
//
// For each workload the slots of all contestants are made at one moment, then the backlog is written, then the contestants
// replay it in turn, round by round, each from a slot of its own into a database of its own:
//
//	pg_recvlogical   reads pgoutput and throws it away: what decoding on the source costs by itself
//	native           the apply worker of a subscription
//	pgdts            the engine of the step stream, ledger included, without Temporal
//	pgcopydb         follow, where it is installed
//
// A time ends when the last transaction of the backlog is visible on the target, and counts only when the tables are
// equal. At the end the latency is measured while pgbench writes at half of the rate that was reached.
//
// It is here and not under tests because only what is below activities may import the engine.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgdts/pgdts/tests/bench/arena"
)

type options struct {
	transactions, scale, rounds int
	workloads, contestants      []string
	steady                      time.Duration
	json, profile               string
}

func main() {
	var o options
	pflag.IntVar(&o.transactions, "transactions", 200_000, "transactions of a backlog")
	pflag.IntVar(&o.scale, "scale", 10, "scale of pgbench")
	pflag.IntVar(&o.rounds, "rounds", 3, "rounds of all contestants")
	pflag.StringSliceVar(&o.workloads, "workloads", nil, "which; all unless given")
	pflag.StringSliceVar(&o.contestants, "contestants", nil, "which; all unless given")
	pflag.DurationVar(&o.steady, "steady", 20*time.Second, "how long the latency is measured; 0 = not at all")
	pflag.StringVar(&o.json, "json", "", "file for the measurements")
	pflag.StringVar(&o.profile, "profile", "", "file for a CPU profile of pgdts' share of the backlogs")
	pflag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-cdc:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	place, err := arena.Open(ctx, settings)
	if err != nil {
		return err
	}
	defer place.Close()
	b := &bench{Arena: place, options: o, ours: map[string]*replay{}}
	var results []result
	for _, w := range workloads(o) {
		measured, err := b.compare(ctx, w)
		results = append(results, measured...)
		if err != nil {
			return err
		}
	}
	var latency *steady
	if o.steady > 0 {
		if latency, err = b.steady(ctx, fastest(results)); err != nil {
			return err
		}
	}
	show(os.Stdout, results, latency)
	if o.json == "" {
		return nil
	}
	return b.Write(o.json, map[string]any{"scale": o.scale, "results": results, "steady": latency})
}
