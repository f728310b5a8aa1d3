package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Apply applies transactions in the order given. When it returns nil, every transaction whose last part was given is
// durable on the target together with its position. A transaction whose last part is still to come stays open on the
// target; the position stays before it. Transactions that are durable already are skipped.
func (a *Applier) Apply(ctx context.Context, batch []wal.Transaction) error {
	if err := a.usable(); err != nil {
		return err
	}
	for len(batch) > 0 {
		n := a.segment(batch)
		if err := a.take(ctx, batch[:n]); err != nil {
			return a.fail("apply", a.lacking(ctx, batch[:n], a.upTo(ctx, batch[:n], err)))
		}
		batch = batch[n:]
	}
	return nil
}

// segment is how many transactions go into one target transaction: whole ones together, a part by itself.
func (a *Applier) segment(batch []wal.Transaction) int {
	for n := range batch {
		if !batch[n].First || !batch[n].Last {
			return max(n, 1)
		}
	}
	return len(batch)
}

// upTo makes durable what came before the transaction that met a table which is not as it was planned, so that the target is
// exactly where the source was before. What comes after waits for a person.
func (a *Applier) upTo(ctx context.Context, segment []wal.Transaction, drift error) error {
	fault, ok := migration.AsFault(drift)
	if !ok || fault.Kind != migration.FaultDrift || a.unended != nil || a.current == nil {
		return drift
	}
	n := slices.IndexFunc(segment, func(tx wal.Transaction) bool { return tx.XID == a.current.XID && tx.Commit == a.current.Commit })
	if n <= 0 {
		return drift
	}
	if err := a.abandon(ctx); err != nil {
		return drift // the connection is gone; the next attempt comes to the same place
	}
	if err := a.take(ctx, segment[:n]); err != nil {
		return err
	}
	return drift
}

func (a *Applier) take(ctx context.Context, segment []wal.Transaction) error {
	for len(segment) > 0 && a.applied(&segment[0]) {
		segment = segment[1:]
	}
	if len(segment) == 0 {
		return nil
	}
	if err := a.checkParts(&segment[0]); err != nil {
		return err
	}
	if a.unended == nil {
		a.begin(ctx)
	} else {
		a.pipe.plain(ctx, "release savepoint segment")
		a.pipe.plain(ctx, "savepoint segment")
	}
	last := &segment[len(segment)-1]
	if err := a.write(ctx, segment, last); err != nil {
		return err
	}
	if !last.Last {
		a.hold(last)
		return nil
	}
	return a.commit(ctx, last.End)
}

// applied compares the end of the commit; a part does not know it yet, but a position is never inside a commit record.
func (a *Applier) applied(tx *wal.Transaction) bool {
	if tx.End != 0 {
		return tx.End <= a.position
	}
	return tx.Commit < a.position
}

func (a *Applier) checkParts(tx *wal.Transaction) error {
	switch {
	case a.unended == nil && tx.First:
		return nil
	case a.unended != nil && !tx.First && a.unended.XID == tx.XID:
		return nil
	}
	return migration.Faultf(migration.FaultBug, "apply", "", "transaction %d came with a part missing or out of order", tx.XID)
}

// hold keeps what the next part needs, not the changes.
func (a *Applier) hold(part *wal.Transaction) {
	a.unended = &wal.Transaction{XID: part.XID, Commit: part.Commit}
	a.held.Changes += a.counted.Changes
	a.held.Conflicts += a.counted.Conflicts
	a.counted = Stats{}
	for i := range a.reshaped {
		a.reshaped[i].settled = true
	}
}

// begin opens the target transaction; its statements travel with the first ones of the batch.
func (a *Applier) begin(ctx context.Context) {
	a.batches++
	a.pipe.plain(ctx, "begin isolation level read committed")
	a.pipe.ledger(ctx, a.config.Lane.GuardStatement())
	a.pipe.ledger(ctx, a.config.Lane.HoldProgress(a.position))
	a.pipe.plain(ctx, "set constraints all deferred")
	a.pipe.plain(ctx, "savepoint segment")
}

// inOrderBatches is for how many batches a table whose folded statements failed is written in source order; each
// further failure doubles it, up to inOrderDoublings times.
const (
	inOrderBatches   = 16
	inOrderDoublings = 8
)

// write applies a segment folded, then with failing tables in source order, then one change at a time.
func (a *Applier) write(ctx context.Context, segment []wal.Transaction, last *wal.Transaction) error {
	a.walk.executor, a.walk.single = a, false
	for {
		err := a.attempt(ctx, segment, last)
		var failed *misfit
		if !errors.As(err, &failed) {
			return a.explain(ctx, err)
		}
		if failed.ours {
			return a.lost(ctx, failed)
		}
		if a.walk.single || failed.err != nil && !orderMatters(failed.err) {
			return err
		}
		a.walk.reset()
		if err := a.rollback(ctx); err != nil {
			return err
		}
		a.fallBack(failed)
	}
}

// orderMatters knows what the order of statements can cause: unique, exclusion, foreign key and check violations, and a
// key that came twice in one statement.
func orderMatters(err error) bool {
	switch pg.SQLState(err) {
	case "23505", "23P01", "23503", "23514", "21000":
		return true
	}
	return false
}

func (a *Applier) rollback(ctx context.Context) error {
	a.unshape()
	a.pipe.plain(ctx, "rollback to savepoint segment")
	return a.pipe.flush(ctx)
}

// fallBack chooses how the segment is written next. A foreign key needs the order between tables.
func (a *Applier) fallBack(failed *misfit) {
	t := failed.table
	if failed.err == nil || pg.SQLState(failed.err) == "23503" || t.inOrder() {
		a.walk.executor, a.walk.single = careful{a}, true
		a.stats.Replayed++
		a.config.Logger.Debug("replayed a batch change by change", zap.String(migration.KeyTable, t.planned.Name.String()))
		return
	}
	t.ordered, t.orderedUntil = true, a.batches+inOrderBatches<<t.fallbacks
	t.fallbacks = min(t.fallbacks+1, inOrderDoublings)
	a.config.Logger.Debug("wrote a table in source order", zap.String(migration.KeyTable, t.planned.Name.String()))
}

// attempt queues everything of a segment and waits for the results.
func (a *Applier) attempt(ctx context.Context, segment []wal.Transaction, last *wal.Transaction) error {
	a.counted = Stats{}
	for i := range segment {
		tx := &segment[i]
		if a.applied(tx) {
			continue
		}
		a.current = tx
		a.ordinal++
		for j := range tx.Changes {
			if err := a.change(ctx, tx, &tx.Changes[j]); err != nil {
				return err
			}
		}
	}
	if err := a.walk.flush(ctx); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.ApplyBatch); err != nil {
		return err
	}
	if last.Last {
		a.finish(ctx, last.End, last)
	}
	return a.pipe.flush(ctx)
}

func (a *Applier) change(ctx context.Context, tx *wal.Transaction, change *wal.Change) error {
	switch change.Op {
	case wal.Truncate:
		return a.truncate(ctx, tx, change.Truncated)
	case wal.Insert, wal.Update, wal.Delete:
		return a.row(ctx, tx, change)
	case wal.Message: // it moves the position, nothing else
	}
	return nil
}

func (a *Applier) row(ctx context.Context, tx *wal.Transaction, change *wal.Change) error {
	t, err := a.table(ctx, change.Relation)
	if err != nil {
		return err
	}
	regime, err := a.decide(tx, t)
	if err != nil || regime == skip || !t.wants(change.Op) {
		return err
	}
	if err := a.bind(ctx, t, change.Relation); err != nil {
		return err
	}
	e, err := t.event(change, regime)
	if err != nil {
		return err
	}
	if t.ordered && a.batches > t.orderedUntil && a.walk.empty(t) {
		t.ordered = false
	}
	a.counted.Changes++
	return a.walk.event(ctx, tx, t, e)
}

// decide asks once per transaction and table.
func (a *Applier) decide(tx *wal.Transaction, t *table) (regime, error) {
	if t.decidedFor == a.ordinal {
		return t.decided, nil
	}
	if !t.copied() && a.full() && t.planned.OID == t.relid {
		return skip, migration.Faultf(migration.FaultBug, "apply to", t.planned.Name.String(), "its copy is not complete")
	}
	t.decidedFor, t.decided = a.ordinal, t.decide(tx.XID)
	t.copying = t.decided == band && t.copies(tx.XID)
	return t.decided, nil
}

// do queues an action's statements, each of a bounded size.
func (a *Applier) do(ctx context.Context, act action) error {
	forms := act.table.forms(act)
	for rows := act.rows; len(rows) > 0; {
		n := act.portion(rows)
		part := act
		part.rows = rows[:n]
		expect := act.expect
		if expect != uncounted {
			expect = act.each() * int64(n)
		}
		for i, form := range forms {
			s := act.table.statement(part.shape(form))
			hits, last := expect, i == len(forms)-1
			if !form.counts() {
				hits = uncounted
			}
			if err := a.pipe.rows(ctx, act, s, part.rows, hits, form.counts() && !last); err != nil {
				return err
			}
		}
		rows = rows[n:]
	}
	return nil
}

const (
	statementRows  = 20_000
	statementBytes = 16 << 20
)

// portion is how many rows go into one statement.
func (a action) portion(rows []rowChange) int {
	if a.table.keyless() && a.kind != insert || len(a.table.given) == 0 {
		return 1
	}
	bytes := 0
	for n := range rows {
		if n == statementRows {
			return n
		}
		for i := range rows[n].image {
			bytes += len(rows[n].image[i].Data)
		}
		if bytes > statementBytes {
			return n + 1
		}
	}
	return len(rows)
}

// shape is that of the action's rows; a form that finds whole rows is for one row.
func (a action) shape(f form) shape {
	switch {
	case !f.counts() || a.table.computed && a.table.keyless():
		return shape{f, ""}
	case f == formRemoveWhole || f == formChangeWhole:
		return shape{f, nulls(a.rows[0].at)}
	}
	return shape{f, a.absent}
}

// putOrRefetch is for the band: a row whose TOASTed values were not sent is changed if it is there, else read again. Where
// nobody knows what is there, it is always read again.
func (a *Applier) putOrRefetch(ctx context.Context, tx *wal.Transaction, t *table, image row) error {
	if t.fromNow {
		return a.fetchAndPut(ctx, tx, t, image)
	}
	act := action{table: t, kind: change, absent: absent(image), rows: []rowChange{{image, image}}, expect: uncounted}
	if err := a.do(ctx, act); err != nil {
		return err
	}
	hit, err := a.pipe.count(ctx)
	if err != nil || hit > 0 {
		return err
	}
	return a.fetchAndPut(ctx, tx, t, image)
}

// fetchAndPut writes a row as the source has it now, and makes the band last until the stream has come to that point.
// A row that the source no longer has is removed by a change to come.
func (a *Applier) fetchAndPut(ctx context.Context, tx *wal.Transaction, t *table, image row) error {
	found, err := a.refetch(ctx, tx, t, image)
	if err != nil {
		return err
	}
	t.extend(found.snapshot, found.high)
	a.bands[t] = true
	a.extended = append(a.extended, extension{t, found.snapshot, found.high})
	if found.image == nil {
		return nil
	}
	return a.do(ctx, action{table: t, kind: put, rows: []rowChange{{found.image, found.image}}, expect: uncounted})
}

// explain turns a conflict that stops the migration into its fault, and leaves the evidence in the ledger.
func (a *Applier) explain(ctx context.Context, err error) error {
	var stop *errStopped
	if !errors.As(err, &stop) {
		return err
	}
	a.pipe.plain(ctx, "rollback")
	if err := a.pipe.flush(ctx); err != nil {
		return err
	}
	a.pipe.plain(ctx, "begin")
	a.pipe.ledger(ctx, a.config.Lane.GuardStatement())
	a.pipe.ledger(ctx, a.config.Lane.AddConflict(stop.t.relid, stop.end, stop.kind.String(), stop.t.keyText(stop.at), stop.what))
	a.pipe.plain(ctx, "commit")
	if err := a.pipe.flush(ctx); err != nil {
		return err
	}
	return stop.fault()
}

// lost asks the guard why a statement on the ledger did not find its row.
func (a *Applier) lost(ctx context.Context, failed *misfit) error {
	if failed.err != nil {
		return failed
	}
	a.pipe.plain(ctx, "rollback")
	if err := a.pipe.flush(ctx); err != nil {
		return err
	}
	err := pgx.BeginFunc(ctx, a.conn, func(tx pgx.Tx) error { return a.config.Lane.Guard(ctx, tx) })
	if err != nil {
		return err
	}
	return migration.NewFault(migration.FaultReplaced, "apply", "", fmt.Errorf("another process has moved the position on from %s", a.position), "")
}
