package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// bench is a source, a target, and a directory for what programs leave.
type bench struct {
	options        options
	source, target server
	dir            string
	ours           map[string]*replay // by database
}

// result is what one contestant took for one backlog, round by round.
type result struct {
	Workload     string    `json:"workload"`
	Transactions int       `json:"transactions"`
	Contestant   string    `json:"contestant"`
	Seconds      []float64 `json:"seconds,omitempty"`
	Median       float64   `json:"median,omitempty"`
	Skipped      string    `json:"skipped,omitempty"`
}

func start(ctx context.Context, o options) (*bench, error) {
	b := &bench{options: o, ours: map[string]*replay{}}
	var err error
	if b.dir, err = os.MkdirTemp("", "pgdts-bench-cdc-"); err != nil {
		return nil, err
	}
	if b.source, err = startServer(ctx); err == nil {
		b.target, err = startServer(ctx)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	for _, s := range []server{b.source, b.target} {
		if s.Server != nil {
			_ = s.Close()
		}
	}
	_ = os.RemoveAll(b.dir)
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
		results[i] = result{Workload: w.name, Transactions: b.transactions(w), Contestant: c.name}
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
	rows, err := b.source.contents(ctx, w.name)
	if err != nil {
		return nil, err
	}
	for round := range b.options.rounds {
		for i, c := range taking {
			if err := b.measure(ctx, c, w, round, end, rows, &results[i]); err != nil {
				return results, err
			}
		}
	}
	return results, b.source.release(ctx, w.name)
}

func (b *bench) taking() []contestant {
	return slices.DeleteFunc(slices.Clone(contestants), func(c contestant) bool {
		return len(b.options.contestants) > 0 && !slices.Contains(b.options.contestants, c.name)
	})
}

// clone brings what the source holds into the target's base.
func (b *bench) clone(ctx context.Context, w workload) error {
	if err := b.target.fresh(ctx, base); err != nil {
		return err
	}
	dump := b.source.command(ctx, "pg_dump", "--no-publications", b.source.URI(w.name))
	load := b.target.command(ctx, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", b.target.URI(base))
	pipe, err := dump.StdoutPipe()
	if err != nil {
		return err
	}
	load.Stdin = pipe
	if err := dump.Start(); err != nil {
		return err
	}
	if err := errors.Join(do(load), dump.Wait()); err != nil {
		return err
	}
	return b.target.exec(ctx, base, "vacuum (analyze)")
}

// measure believes a time only when the target is equal. A peer that fails is no reason to stop.
func (b *bench) measure(ctx context.Context, c contestant, w workload, round int, end, rows string, r *result) error {
	if r.Skipped != "" {
		return nil
	}
	if err := b.target.exec(ctx, "postgres", "checkpoint"); err != nil {
		return err
	}
	took, err := c.replay(ctx, b, w, c.place(round), end)
	if err == nil && c.writes {
		err = b.compareRows(ctx, c.place(round), rows)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && c.name != pgdts {
		r.Skipped = err.Error()
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w", c.name, w.name, err)
	}
	fmt.Fprintf(os.Stderr, "round %d: %s %s %.2f s\n", round+1, w.name, c.name, took.Seconds())
	r.Seconds = append(r.Seconds, took.Seconds())
	r.Median = median(r.Seconds)
	return nil
}

func (b *bench) compareRows(ctx context.Context, database, rows string) error {
	there, err := b.target.contents(ctx, database)
	if err == nil && there != rows {
		err = errors.New("the target differs from the source:\n" + there + "\nwant\n" + rows)
	}
	return err
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// fastest is our rate of TPC-B transactions in a second, or 0.
func fastest(results []result) float64 {
	for _, r := range results {
		if r.Workload == tpcb && r.Contestant == pgdts && r.Median > 0 {
			return float64(r.Transactions) / r.Median
		}
	}
	return 0
}

// show prints medians, and our time as a share of each.
func show(out io.Writer, results []result, latency *steady) {
	ours := map[string]float64{}
	for _, r := range results {
		if r.Contestant == pgdts {
			ours[r.Workload] = r.Median
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "workload\ttransactions\tcontestant\tmedian\tpgdts / it\trounds")
	for _, r := range results {
		if r.Median == 0 {
			fmt.Fprintf(table, "%s\t%d\t%s\t-\t-\t%s\n", r.Workload, r.Transactions, r.Contestant, r.Skipped)
			continue
		}
		ratio := "-"
		if mine := ours[r.Workload]; mine > 0 {
			ratio = fmt.Sprintf("%.2f", mine/r.Median)
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%.2f s\t%s\t%s\n", r.Workload, r.Transactions, r.Contestant, r.Median, ratio,
			strings.Trim(fmt.Sprintf("%.2f", r.Seconds), "[]"))
	}
	_ = table.Flush()
	if latency != nil {
		fmt.Fprintf(out, "\nlatency at %.0f of %.0f transactions/s wanted: p50 %.0f ms, p99 %.0f ms, worst %.0f ms of %d markers\n",
			latency.Reached, latency.Wanted, latency.P50, latency.P99, latency.Worst, latency.Markers)
	}
}

func write(o options, results []result, latency *steady) error {
	text, err := json.MarshalIndent(map[string]any{
		"at": time.Now().UTC().Format(time.RFC3339), "cores": runtime.NumCPU(), "major": major, "settings": settings,
		"scale": o.scale, "results": results, "steady": latency,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(text, '\n'), 0o600)
}
