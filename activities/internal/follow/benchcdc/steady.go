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
	// Unbounded is what the source wrote, beside the stream, when nothing held its clients back.
	Unbounded float64 `json:"unboundedTransactionsPerSecond"`
	Wanted    float64 `json:"wantedTransactionsPerSecond"`
	Reached   float64 `json:"reachedTransactionsPerSecond"`
	Markers   int     `json:"markers"`
	P50       float64 `json:"p50"`
	P99       float64 `json:"p99"`
	Worst     float64 `json:"worst"`
}

const markEvery = 20 * time.Millisecond

// steady writes TPC-B transactions at half of the rate that is possible, at which a backlog is replayed or the source
// writes beside the stream, and measures from before a marker is written until it is durable on the target. No transaction
// that was committed before the marker arrives later.
func (b *bench) steady(ctx context.Context, possible float64) (*steady, error) {
	if possible == 0 {
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
	s := &steady{}
	err := b.ours[place].follow(ctx, func(ctx context.Context, f *follow.Follower) (err error) {
		if s.Unbounded, err = b.rate(ctx, w, unboundedFor, func(writing <-chan error) error { return <-writing }); err != nil {
			return err
		}
		if _, err := mark(ctx, f); err != nil { // all of that has arrived
			return err
		}
		s.Wanted = min(possible, s.Unbounded) / 2
		s.Reached, err = b.rate(ctx, w, b.options.steady, func(writing <-chan error) error { return s.measure(ctx, f, writing) },
			"-R", strconv.Itoa(int(s.Wanted)))
		return err
	})
	return s, err
}

const unboundedFor = 5 * time.Second

// rate is how many transactions a second were written while work ran, which waits for the writing to end.
func (b *bench) rate(ctx context.Context, w workload, long time.Duration, work func(writing <-chan error) error, arguments ...string) (float64, error) {
	count := func() (float64, error) {
		text, err := b.Source.Text(ctx, w.name, "select count(*)::text from pgbench_history")
		if err != nil {
			return 0, err
		}
		return strconv.ParseFloat(text, 64)
	}
	before, err := count()
	if err != nil {
		return 0, err
	}
	load, err := b.pgbench(ctx, w, append(arguments, "-T", strconv.Itoa(int(long.Seconds())))...)
	if err != nil {
		return 0, err
	}
	writing := make(chan error, 1)
	go func() { writing <- load() }() // ends by itself
	if err := work(writing); err != nil {
		return 0, err
	}
	after, err := count()
	return (after - before) / long.Seconds(), err
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
