package main

import (
	"context"
	"fmt"
	"time"
)

// kill is one SIGKILL and what came of it.
type kill struct {
	where string
	pid   int
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

// killAmidCopy waits until chunks are done and others are under way.
func (d *demo) killAmidCopy(ctx context.Context) error {
	var before progress
	err := d.pgdts.poll(ctx, "amid the copy", 20*time.Millisecond, func() bool {
		at, known := d.pgdts.copied(ctx)
		before = at
		return known && at.done > 0 && at.inFlight > 0
	})
	if err != nil {
		return err
	}
	where := fmt.Sprintf("amid the copy, with %d of %d chunks done", before.done, before.all)
	return d.killAndResume(ctx, where, func() bool {
		at, known := d.pgdts.copied(ctx)
		return known && at.attempts > before.attempts
	})
}

const appliedSQL = "select (end_lsn - '0/0')::bigint from dts_sync.progress"

// killAmidIncremental kills it while changes flow.
func (d *demo) killAmidIncremental(ctx context.Context) error {
	var before int64
	if !d.pgdts.ledger(ctx, appliedSQL, &before) {
		return fmt.Errorf("the ledger does not tell how far changes are applied")
	}
	return d.killAndResume(ctx, "amid incremental", func() bool {
		var applied int64
		return d.pgdts.ledger(ctx, appliedSQL, &applied) && applied > before
	})
}

// killAndResume kills pgdts and types the command again; it works again when the condition holds.
func (d *demo) killAndResume(ctx context.Context, where string, works func() bool) error {
	victim := d.pgdts.process()
	victim.kill()
	d.page.heading("Killed", "SIGKILL to pgdts, "+where+"; the same command again")
	if err := d.launch(); err != nil {
		return err
	}
	started := time.Now()
	if err := d.pgdts.poll(ctx, "resumed", 20*time.Millisecond, works); err != nil {
		return err
	}
	d.kills = append(d.kills, kill{where: where, pid: victim.pid, back: time.Since(started)})
	return nil
}
