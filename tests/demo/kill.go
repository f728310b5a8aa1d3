package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// kill is one SIGKILL and what came of it.
type kill struct {
	where string
	back  time.Duration // from the new start until work went on
}

// killOnTheWay kills pgdts amid the copy and amid incremental, each time followed by the same command.
func (d *demo) killOnTheWay(ctx context.Context) error {
	if err := d.killAmidCopy(ctx); err != nil {
		return err
	}
	if err := d.pgdts.await(ctx, "caught up", steadily(steadyFor)); err != nil {
		return err
	}
	return d.killAmidIncremental(ctx)
}

// copySQL tells the chunks that are done and those that are being copied, and all attempts so far.
const copySQL = `
select count(*) filter (where state = 'done'), count(*) filter (where state <> 'done' and attempts > 0), count(*),
       coalesce(sum(attempts), 0) from dts_sync.chunk`

// progress of the copy, in chunks.
type progress struct{ done, inFlight, all, attempts int }

func (p *pgdts) copied(ctx context.Context) (progress, bool) {
	var at progress
	known := p.ledger(ctx, copySQL, &at.done, &at.inFlight, &at.all, &at.attempts)
	return at, known
}

// amid is a moment that costs something: some chunks are done, and others are under way.
func (p progress) amid() bool { return p.inFlight > 0 && p.done >= p.all/4 }

// killAmidCopy kills it at such a moment, and remembers what was in flight: nothing else may be copied again.
func (d *demo) killAmidCopy(ctx context.Context) error {
	err := d.pgdts.poll(ctx, "amid the copy", 20*time.Millisecond, func() bool {
		at, known := d.pgdts.copied(ctx)
		return known && (at.amid() || at.all > 0 && at.done == at.all)
	})
	if err != nil {
		return err
	}
	d.pgdts.process().kill()
	before, known := d.pgdts.copied(ctx)
	if !known || before.done == before.all {
		return errors.New("the copy was over before pgdts could be killed amid it: raise SCALE")
	}
	d.inFlight = before.inFlight
	where := fmt.Sprintf("amid the copy, with %d of %d chunks done and %d in flight", before.done, before.all, before.inFlight)
	return d.resume(ctx, where, func() bool {
		at, known := d.pgdts.copied(ctx)
		return known && at.attempts > before.attempts
	})
}

const appliedSQL = "select (end_lsn - '0/0')::bigint from dts_sync.progress"

// killAmidIncremental kills it while changes flow.
func (d *demo) killAmidIncremental(ctx context.Context) error {
	d.pgdts.process().kill()
	var before int64
	if !d.pgdts.ledger(ctx, appliedSQL, &before) {
		return errors.New("the ledger does not tell how far changes are applied")
	}
	return d.resume(ctx, "amid incremental", func() bool {
		var applied int64
		return d.pgdts.ledger(ctx, appliedSQL, &applied) && applied > before
	})
}

// resume types the command again; pgdts works again when the condition holds.
func (d *demo) resume(ctx context.Context, where string, works func() bool) error {
	d.page.heading("Killed", "with SIGKILL, "+where+"; the same command again")
	if err := d.launch(); err != nil {
		return err
	}
	started := time.Now()
	if err := d.pgdts.poll(ctx, "it worked again", 20*time.Millisecond, works); err != nil {
		return err
	}
	d.kills = append(d.kills, kill{where: where, back: time.Since(started)})
	return nil
}
