package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// observer watches a running pgdts from outside: its status, its memory, and how old the target is.
type observer struct {
	pgdts  *pgdts
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// observeInterval is between two looks at each thing.
const observeInterval = 250 * time.Millisecond

func observe(ctx context.Context, p *pgdts) *observer {
	ctx, cancel := context.WithCancel(ctx)
	o := &observer{pgdts: p, cancel: cancel}
	o.every(ctx, func() { p.refresh(ctx) })
	o.every(ctx, p.measureMemory)
	o.every(ctx, func() { p.measureAge(ctx) })
	return o
}

func (o *observer) every(ctx context.Context, look func()) {
	o.done.Go(func() {
		for ctx.Err() == nil {
			look()
			select {
			case <-ctx.Done():
			case <-time.After(observeInterval):
			}
		}
	})
}

func (o *observer) stop() {
	o.cancel()
	o.done.Wait()
}

// measurements are what the observer has gathered.
type measurements struct {
	memory, serverMemory int64 // bytes, the peaks
	ages                 []time.Duration
}

// measureMemory keeps the greatest resident size of pgdts, and of the Temporal server beside it.
func (p *pgdts) measureMemory() {
	own, server := peak(p.process().pid), peak(p.address().Server)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.memory, p.seen.serverMemory = max(p.seen.memory, own), max(p.seen.serverMemory, server)
}

// peak is the kernel's own record of the greatest resident size (proc(5)); 0 for a process that is gone.
func peak(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kilobytes, _ := strconv.ParseInt(string(fields[0]), 10, 64)
	return kilobytes * 1024
}

// ageSQL is how old the newest write is that the target shows. Writers add one every few milliseconds.
const ageSQL = "select extract(epoch from pg_catalog.clock_timestamp() - max(at))::float8 from load.audit"

// measureAge looks at the target once the migration has caught up.
func (p *pgdts) measureAge(ctx context.Context) {
	p.mu.Lock()
	streaming := !p.steady.IsZero() && p.last.Phase == migration.PhaseIncremental
	p.mu.Unlock()
	if !streaming {
		return
	}
	age, err := age(ctx, p.target)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.steady.IsZero() { // else something happened while we asked
		p.seen.ages = append(p.seen.ages, age)
	}
}

func age(ctx context.Context, uri string) (time.Duration, error) {
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var seconds float64
	err = conn.QueryRow(ctx, ageSQL).Scan(&seconds)
	return time.Duration(seconds * float64(time.Second)), err
}

// latency is the median age and the greatest.
func (m measurements) latency() (median, most time.Duration) {
	if len(m.ages) == 0 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(m.ages))
	return sorted[len(sorted)/2], sorted[len(sorted)-1]
}
