package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/tests/load"
)

const (
	benchClients = 2
	benchRate    = 200
	shopClients  = 4
	// shopPause is the mean pause between two transactions of a client: with four, some two hundred a second.
	shopPause = 20 * time.Millisecond
)

// writers work on the source from before the migration until its tables refuse them.
type writers struct {
	bench *bench
	shop  *load.Load
}

func (s *stage) startWriters(ctx context.Context) *writers {
	return &writers{
		bench: startBench(s.source, s.dir, benchClients, benchRate),
		shop: load.Start(ctx, load.Config{
			URI: s.source.URI(database), Clients: shopClients, Seed: uint64(time.Now().UnixNano()), Pause: shopPause, Prepared: true,
			Operations: append(append([]load.Operation{}, shopOperations...), load.Operations...),
		}),
	}
}

func (w *writers) stop() {
	w.bench.end()
	w.shop.Stop()
}

// testimony is what the writers know at the end.
type testimony struct {
	load.Outcome
	bench      int       // transactions of pgbench that were acknowledged
	lastCommit time.Time // of all writers
}

// refusalPatience is how long after the opening the last writer may take to meet the closed source.
const refusalPatience = 15 * time.Second

// testify waits until every writer was refused, and asks them.
func (w *writers) testify() (testimony, error) {
	outcome := make(chan load.Outcome, 1)
	go func() { outcome <- w.shop.Wait() }() // ends at the latest with stop
	defer w.stop()
	var t testimony
	select {
	case t.Outcome = <-outcome:
	case <-time.After(refusalPatience):
		return t, errors.New("the shop's writers were not refused by the source after the cutover")
	}
	if !w.bench.refused(refusalPatience) {
		return t, errors.New("pgbench was not refused by the source after the cutover")
	}
	transactions, last, err := w.bench.acknowledged()
	if err != nil {
		return t, fmt.Errorf("read pgbench's log: %w", err)
	}
	t.bench, t.lastCommit = transactions, t.LastCommit
	if last.After(t.lastCommit) {
		t.lastCommit = last
	}
	if len(t.Errors) > 0 {
		return t, fmt.Errorf("%d transactions of the writers met an error that no writer causes, the first: %w", len(t.Errors), t.Errors[0])
	}
	return t, nil
}

// count of all that was acknowledged and all that was rolled back on purpose.
func (t testimony) totals() (acknowledged, rolledBack int) {
	for _, sequence := range t.RolledBack {
		rolledBack += len(sequence)
	}
	return t.Commits() + t.bench, rolledBack
}

// check compares the record with the target: every acknowledged transaction is there, and none that was rolled back.
func (t testimony) check(ctx context.Context, target *pgx.Conn) []string {
	var broken []string
	if err := t.Check(ctx, target); err != nil {
		broken = append(broken, "writers' record: "+err.Error())
	}
	// Each transaction of pgbench adds a row here; its clients do not tell of a commit that was not acknowledged.
	var rows int
	err := target.QueryRow(ctx, "select count(*) from public.pgbench_history").Scan(&rows)
	switch {
	case err != nil:
		broken = append(broken, "pgbench's record: "+err.Error())
	case rows < t.bench || rows > t.bench+benchClients:
		broken = append(broken, fmt.Sprintf("pgbench's record: %s transactions were acknowledged, %s are on the target", count(t.bench), count(rows)))
	}
	return broken
}
