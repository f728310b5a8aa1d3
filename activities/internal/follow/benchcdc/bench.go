package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/pgdts/pgdts/tests/bench/arena"
)

// bench is the arena of one run.
type bench struct {
	*arena.Arena
	options options
	ours    map[string]*replay // by database
}

// result is what one contestant took for one backlog.
type result struct {
	Workload     string `json:"workload"`
	Transactions int    `json:"transactions"`
	arena.Times
}

// base is the database of the target that all others are made from.
const base = "base"

// compare runs the contestants in turn, so that what the machine does besides meets all of them.
func (b *bench) compare(ctx context.Context, w workload) ([]result, error) {
	if err := b.fill(ctx, w); err != nil {
		return nil, err
	}
	if err := b.clone(ctx, w); err != nil {
		return nil, err
	}
	taking := b.taking()
	results := make([]result, len(taking))
	for i, c := range taking {
		results[i] = result{Workload: w.name, Transactions: b.transactions(w), Times: arena.Times{Contestant: c.name}}
		for round := range b.options.rounds {
			if err := c.prepare(ctx, b, w, c.place(round)); err != nil {
				results[i].Skipped = "prepare: " + err.Error()
			}
		}
	}
	end, err := b.write(ctx, w)
	if err != nil {
		return nil, err
	}
	rows, err := b.Source.Contents(ctx, w.name)
	if err != nil {
		return nil, err
	}
	for round := range b.options.rounds {
		for n := range taking {
			i := (n + round) % len(taking) // everyone comes after everyone else: whoever is before leaves a warm machine
			if err := b.measure(ctx, taking[i], w, round, end, rows, &results[i]); err != nil {
				return results, err
			}
		}
	}
	return results, release(ctx, b.Source, w.name)
}

func (b *bench) taking() []contestant {
	return slices.DeleteFunc(slices.Clone(contestants), func(c contestant) bool {
		return len(b.options.contestants) > 0 && !slices.Contains(b.options.contestants, c.name)
	})
}

// clone brings what the source holds into the target's base.
func (b *bench) clone(ctx context.Context, w workload) error {
	if err := b.Target.Fresh(ctx, base); err != nil {
		return err
	}
	dump := b.Source.Command(ctx, "pg_dump", "--no-publications", b.Source.URI(w.name))
	load := b.Target.Command(ctx, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", b.Target.URI(base))
	pipe, err := dump.StdoutPipe()
	if err != nil {
		return err
	}
	load.Stdin = pipe
	if err := dump.Start(); err != nil {
		return err
	}
	if err := errors.Join(arena.Do(load), dump.Wait()); err != nil {
		return err
	}
	return b.Target.Exec(ctx, base, "vacuum (analyze)")
}

// measure believes a time only when the target is equal. A peer that fails is no reason to stop.
func (b *bench) measure(ctx context.Context, c contestant, w workload, round int, end, rows string, r *result) error {
	if r.Skipped != "" {
		return nil
	}
	if err := b.Target.Exec(ctx, "postgres", "checkpoint"); err != nil {
		return err
	}
	took, err := c.replay(ctx, b, w, c.place(round), end)
	if err == nil && c.writes {
		err = b.compareRows(ctx, c.place(round), rows)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && c.name != arena.Ours {
		r.Skipped = err.Error()
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w", c.name, w.name, err)
	}
	fmt.Fprintf(os.Stderr, "round %d: %s %s %.2f s\n", round+1, w.name, c.name, took.Seconds())
	r.Add(took)
	return nil
}

func (b *bench) compareRows(ctx context.Context, database, rows string) error {
	there, err := b.Target.Contents(ctx, database)
	if err == nil && there != rows {
		err = errors.New("the target differs from the source:\n" + there + "\nwant\n" + rows)
	}
	return err
}

// fastest is our rate of TPC-B transactions in a second, or 0.
func fastest(results []result) float64 {
	for _, r := range results {
		if r.Workload == tpcb && r.Contestant == arena.Ours && r.Median > 0 {
			return float64(r.Transactions) / r.Median
		}
	}
	return 0
}

func show(out io.Writer, results []result, latency *steady) {
	var lines []arena.Line
	for _, r := range results {
		lines = append(lines, arena.Line{Discipline: []string{r.Workload, strconv.Itoa(r.Transactions)}, Times: r.Times})
	}
	arena.Show(out, []string{"workload", "transactions"}, lines)
	if latency != nil {
		fmt.Fprintf(out, "\nlatency at %.0f transactions/s (wanted %.0f, possible %.0f): p50 %.0f ms, p99 %.0f ms, worst %.0f ms of %d markers\n",
			latency.Reached, latency.Wanted, latency.Unbounded, latency.P50, latency.P99, latency.Worst, latency.Markers)
	}
}
