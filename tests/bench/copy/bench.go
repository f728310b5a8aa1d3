package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/pgdts/pgdts/tests/bench/arena"
)

// bench is the arena of one run.
type bench struct {
	*arena.Arena
	options options
}

// result is what one contestant took for one dataset.
type result struct {
	Dataset string `json:"dataset"`
	Kind    string `json:"kind"`
	arena.Times
}

// compare runs the contestants in turn, so that what the machine does besides meets all of them.
func (b *bench) compare(ctx context.Context, d dataset) ([]result, error) {
	rows, err := b.Source.Contents(ctx, d.name)
	if err != nil {
		return nil, err
	}
	want, err := objects(ctx, b.Source, d.name)
	if err != nil {
		return nil, err
	}
	var results []result
	var taking []contestant
	for _, c := range contestants {
		if len(b.options.contestants) > 0 && !slices.Contains(b.options.contestants, c.String()) {
			continue
		}
		r := result{Dataset: d.name, Kind: c.kind, Times: arena.Times{Contestant: c.name}}
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
			took, err := b.measure(ctx, c, d, rows, want)
			if ctx.Err() != nil {
				return results, ctx.Err()
			}
			if err != nil && c.name != arena.Ours {
				r.Skipped = err.Error() // a peer that fails is no reason to stop
				continue
			}
			if err != nil {
				return results, fmt.Errorf("%s of %s: %w", c, d.name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d: %s %s %.2f s\n", round+1, d.name, c, took.Seconds())
			r.Add(took)
		}
	}
	return results, nil
}

// measure believes a time only when the copy is equal. The target's earlier work is on disk before the next begins.
func (b *bench) measure(ctx context.Context, c contestant, d dataset, rows, want string) (time.Duration, error) {
	if err := b.Target.Exec(ctx, "postgres", "checkpoint"); err != nil {
		return 0, err
	}
	took, err := c.copy(ctx, b, d)
	if err != nil {
		return 0, err
	}
	copied, err := b.Target.Contents(ctx, d.name)
	if err == nil && copied != rows {
		err = errors.New("the copy differs from its source:\n" + copied + "\nwant\n" + rows)
	}
	if err != nil || c.kind != whole {
		return took, err
	}
	made, err := objects(ctx, b.Target, d.name)
	if err == nil && made != want {
		err = errors.New("the clone lacks something:\n" + made + "\nwant\n" + want)
	}
	return took, err
}

func show(out io.Writer, results []result) {
	var lines []arena.Line
	for _, r := range results {
		lines = append(lines, arena.Line{Discipline: []string{r.Dataset, r.Kind}, Times: r.Times})
	}
	arena.Show(out, []string{"dataset", "kind"}, lines)
}
