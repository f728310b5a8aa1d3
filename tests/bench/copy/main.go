// Command copy measures the full copy against what else there is, on servers of its own that share all settings:
//
//	go run ./tests/bench/copy --scale 100 --rows 3000000 --n 2 --rounds 3
//
// Every contestant copies from the same source into a fresh database of the target, in turn, round by round. A time counts only
// when the copy is equal. Data alone: psql's COPY (binary) through as many pipes as there are streams, against pgdts with
// types [full] into tables without indexes, from the first chunk to the last. Everything: pg_dump -Fd | pg_restore and
// pgcopydb clone against `pgdts run` with types [schema, full], each from start to end of the command.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/pgdts/pgdts/tests/bench/arena"
)

type options struct {
	scale, rows, n, rounds int
	datasets, contestants  []string
	json, pgdts            string
}

func main() {
	var o options
	pflag.IntVar(&o.scale, "scale", 100, "scale of pgbench")
	pflag.IntVar(&o.rows, "rows", 3_000_000, "rows of the wide table")
	pflag.IntVar(&o.n, "n", 2, "streams, jobs, lanes")
	pflag.IntVar(&o.rounds, "rounds", 3, "rounds of all contestants")
	pflag.StringSliceVar(&o.datasets, "datasets", []string{"pgbench", "wide"}, "which")
	pflag.StringSliceVar(&o.contestants, "contestants", nil, "which; all unless given")
	pflag.StringVar(&o.json, "json", "", "file for the measurements")
	pflag.StringVar(&o.pgdts, "pgdts", filepath.Join("bin", "pgdts"), "the program")
	pflag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-copy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	place, err := arena.Open(ctx, settings)
	if err != nil {
		return err
	}
	defer place.Close()
	bench := &bench{place, o}
	var results []result
	for _, dataset := range datasets(o) {
		if err := dataset.fill(ctx, bench.Source); err != nil {
			return err
		}
		if err := settle(ctx, bench.Source, dataset.name); err != nil {
			return err
		}
		measured, err := bench.compare(ctx, dataset)
		results = append(results, measured...)
		if err != nil {
			return err
		}
	}
	show(os.Stdout, results)
	if o.json == "" {
		return nil
	}
	return bench.Write(o.json, map[string]any{"scale": o.scale, "rows": o.rows, "streams": o.n, "results": results})
}
