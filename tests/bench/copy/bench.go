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
}

// result is what one contestant took for one dataset, round by round.
type result struct {
	Dataset    string    `json:"dataset"`
	Kind       string    `json:"kind"`
	Contestant string    `json:"contestant"`
	Seconds    []float64 `json:"seconds,omitempty"`
	Median     float64   `json:"median,omitempty"`
	Skipped    string    `json:"skipped,omitempty"`
}

func start(ctx context.Context, o options) (*bench, error) {
	b := &bench{options: o}
	var err error
	if b.dir, err = os.MkdirTemp("", "pgdts-bench-"); err != nil {
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

// compare runs the contestants in turn, so that what the machine does besides meets all of them.
func (b *bench) compare(ctx context.Context, d dataset) ([]result, error) {
	rows, err := b.source.contents(ctx, d.name)
	if err != nil {
		return nil, err
	}
	objects, err := b.source.objects(ctx, d.name)
	if err != nil {
		return nil, err
	}
	var results []result
	var taking []contestant
	for _, c := range contestants {
		if len(b.options.contestants) > 0 && !slices.Contains(b.options.contestants, c.String()) {
			continue
		}
		r := result{Dataset: d.name, Kind: c.kind, Contestant: c.name}
		if c.missing != nil {
			r.Skipped = c.missing(b)
		}
		results, taking = append(results, r), append(taking, c)
	}
	for round := range b.options.rounds {
		for i, c := range taking {
			r := &results[i]
			if r.Skipped != "" {
				continue
			}
			took, err := b.measure(ctx, c, d, rows, objects)
			if ctx.Err() != nil {
				return results, ctx.Err()
			}
			if err != nil && c.name != "pgdts" {
				r.Skipped = err.Error() // a peer that fails is no reason to stop
				continue
			}
			if err != nil {
				return results, fmt.Errorf("%s of %s: %w", c, d.name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d: %s %s %.2f s\n", round+1, d.name, c, took.Seconds())
			r.Seconds = append(r.Seconds, took.Seconds())
			r.Median = median(r.Seconds)
		}
	}
	return results, nil
}

// measure believes a time only when the copy is equal. The target's earlier work is on disk before the next begins.
func (b *bench) measure(ctx context.Context, c contestant, d dataset, rows, objects string) (time.Duration, error) {
	if err := b.target.exec(ctx, "postgres", "checkpoint"); err != nil {
		return 0, err
	}
	took, err := c.copy(ctx, b, d)
	if err != nil {
		return 0, err
	}
	copied, err := b.target.contents(ctx, d.name)
	if err == nil && copied != rows {
		err = errors.New("the copy differs from its source:\n" + copied + "\nwant\n" + rows)
	}
	if err != nil || c.kind != whole {
		return took, err
	}
	made, err := b.target.objects(ctx, d.name)
	if err == nil && made != objects {
		err = errors.New("the clone lacks something:\n" + made + "\nwant\n" + objects)
	}
	return took, err
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// show prints medians, and how they compare with ours: above 1 is slower than pgdts.
func show(out io.Writer, results []result) {
	ours := map[string]float64{}
	for _, r := range results {
		if r.Contestant == "pgdts" {
			ours[r.Dataset+r.Kind] = r.Median
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "dataset\tkind\tcontestant\tmedian\tpgdts / it\trounds")
	for _, r := range results {
		if r.Median == 0 {
			fmt.Fprintf(table, "%s\t%s\t%s\t-\t-\t%s\n", r.Dataset, r.Kind, r.Contestant, r.Skipped)
			continue
		}
		ratio := "-"
		if mine := ours[r.Dataset+r.Kind]; mine > 0 {
			ratio = fmt.Sprintf("%.2f", mine/r.Median)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%.2f s\t%s\t%s\n", r.Dataset, r.Kind, r.Contestant, r.Median, ratio, strings.Trim(fmt.Sprintf("%.2f", r.Seconds), "[]"))
	}
	_ = table.Flush()
}

func write(path string, o options, results []result) error {
	text, err := json.MarshalIndent(map[string]any{
		"at": time.Now().UTC().Format(time.RFC3339), "cores": runtime.NumCPU(), "major": major, "settings": settings,
		"scale": o.scale, "rows": o.rows, "streams": o.n, "results": results,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
