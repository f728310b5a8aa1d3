package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/pgdts/pgdts/activities/internal/follow"
)

// steady is how far the target was behind while the source was written to; in milliseconds.
type steady struct {
	Wanted  float64 `json:"wantedTransactionsPerSecond"`
	Reached float64 `json:"reachedTransactionsPerSecond"`
	Markers int     `json:"markers"`
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	Worst   float64 `json:"worst"`
}

const markEvery = 20 * time.Millisecond

// steady writes TPC-B transactions at a rate, and measures from before a marker is written until it is durable on the
// target. No transaction that was committed before the marker arrives later.
func (b *bench) steady(ctx context.Context, rate float64) (*steady, error) {
	if rate == 0 {
		return nil, nil //nolint:nilnil // the workload was not chosen
	}
	w := all[0]
	const place = "steady"
	if err := b.fill(ctx, w); err != nil {
		return nil, err
	}
	if err := b.clone(ctx, w); err != nil {
		return nil, err
	}
	if err := prepareOurs(ctx, b, w, place); err != nil {
		return nil, err
	}
	s := &steady{Wanted: rate}
	load, err := b.pgbench(ctx, w, "-R", strconv.Itoa(int(rate)), "-T", strconv.Itoa(int(b.options.steady.Seconds())))
	if err != nil {
		return nil, err
	}
	err = b.ours[place].follow(ctx, func(ctx context.Context, f *follow.Follower) error {
		if _, err := mark(ctx, f); err != nil { // it is running
			return err
		}
		writing := make(chan error, 1)
		go func() { writing <- load() }() // ends by itself
		return s.measure(ctx, f, writing)
	})
	if err != nil {
		return nil, err
	}
	written, err := b.Source.Text(ctx, w.name, "select count(*)::text from pgbench_history")
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseFloat(written, 64)
	s.Reached = n / b.options.steady.Seconds()
	return s, err
}

// mark waits for one marker, so that none waits behind another.
func mark(ctx context.Context, f *follow.Follower) (time.Duration, error) {
	began := time.Now()
	marker, err := f.Mark(ctx)
	if err == nil {
		_, err = f.AwaitMarker(ctx, marker)
	}
	return time.Since(began), err
}

func (s *steady) measure(ctx context.Context, f *follow.Follower, writing <-chan error) error {
	var all []float64
	for {
		select {
		case err := <-writing:
			if err == nil && len(all) == 0 {
				err = errors.New("no marker came back")
			}
			if err != nil {
				return err
			}
			slices.Sort(all)
			at := func(share float64) float64 { return all[min(len(all)-1, int(math.Ceil(share*float64(len(all))))-1)] }
			s.Markers, s.P50, s.P99, s.Worst = len(all), at(0.5), at(0.99), all[len(all)-1]
			return nil
		case <-time.After(markEvery):
		}
		took, err := mark(ctx, f)
		if err != nil {
			return fmt.Errorf("marker: %w", err)
		}
		all = append(all, float64(took.Microseconds())/1000)
	}
}
