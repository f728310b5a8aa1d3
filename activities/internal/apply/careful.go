package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// careful carries out one change at a time and looks at each count, so that a row that does not fit has a name.
type careful struct{ *Applier }

const (
	rowWasThere   = "the row was there already"
	rowWasMissing = "the row was missing"
	keyWasTaken   = "another row had its new key"
)

// errStopped carries the evidence out of a transaction that is rolled back.
type errStopped struct {
	t    *table
	kind kind
	at   row
	what string
	end  migration.LSN
}

func (e *errStopped) Error() string { return e.what }

func (c careful) do(ctx context.Context, a action) error {
	for _, change := range a.rows {
		one := a
		one.rows, one.expect = []rowChange{change}, a.each()
		if err := c.one(ctx, one, change); err != nil {
			return err
		}
	}
	return nil
}

func (c careful) one(ctx context.Context, a action, r rowChange) error {
	t := a.table
	switch {
	case a.expect == uncounted || a.kind == insert && t.keyless():
		return c.must(ctx, a)
	case t.converges:
		return c.orRefetch(ctx, a, r)
	case a.kind == insert:
		return c.insert(ctx, a, r)
	case a.kind == move && !t.serial:
		if err := c.makeRoom(ctx, a, r); err != nil {
			return err
		}
	}
	hit, err := c.hits(ctx, a, t.forms(a)...)
	if err != nil || hit == 1 {
		return err
	}
	if err := c.conflict(ctx, a, r, rowWasMissing); err != nil || a.kind == remove {
		return err
	}
	return c.restore(ctx, t, r.image)
}

// orRefetch carries out a change without all its values. A row that is not there, or that the copy kept, is read again.
func (c careful) orRefetch(ctx context.Context, a action, r rowChange) error {
	hit, err := c.hits(ctx, a, a.table.forms(a)...)
	if err != nil || hit > 0 {
		return err
	}
	if a.only {
		if kept, err := c.hit(ctx, a, formUnmark); err != nil || kept == 0 {
			return err
		}
	}
	if a.kind == move {
		old := action{table: a.table, kind: remove, rows: []rowChange{{at: r.at}}, expect: uncounted}
		if err := c.must(ctx, old); err != nil {
			return err
		}
	}
	return c.fetchAndPut(ctx, c.current, a.table, r.image)
}

// must carries out an action whose count tells nothing.
func (c careful) must(ctx context.Context, a action) error {
	_, err := c.hits(ctx, a, a.table.forms(a)...)
	return err
}

// hits carries out an action and adds up what those of its statements hit that count.
func (c careful) hits(ctx context.Context, a action, forms ...form) (int64, error) {
	total := int64(0)
	for _, form := range forms {
		hit, err := c.hit(ctx, a, form)
		if err != nil {
			return 0, err
		}
		if form.counts() {
			total += hit
		}
	}
	return total, nil
}

func (c careful) hit(ctx context.Context, a action, f form) (int64, error) {
	s := a.table.statement(a.shape(f))
	if err := c.pipe.rows(ctx, a, s, a.rows, uncounted, false); err != nil {
		return 0, err
	}
	return c.pipe.count(ctx)
}

func (c careful) insert(ctx context.Context, a action, r rowChange) error {
	hit, err := c.hits(ctx, a, formInsertNew)
	if err != nil || hit == 1 {
		return err
	}
	if err := c.conflict(ctx, a, r, rowWasThere); err != nil {
		return err
	}
	a.kind, a.expect = put, uncounted
	return c.must(ctx, a)
}

// makeRoom deletes a row that has the new key of another one. The source had none.
func (c careful) makeRoom(ctx context.Context, a action, r rowChange) error {
	if a.table.sameNormalKey(r.at, r.image) {
		return nil
	}
	taken := action{table: a.table, kind: remove, rows: []rowChange{{at: r.image}}, expect: uncounted}
	hit, err := c.hits(ctx, taken, formRemove)
	if err != nil || hit == 0 {
		return err
	}
	return c.conflict(ctx, a, r, keyWasTaken)
}

// restore writes a row that the source has and the target lacks.
func (c careful) restore(ctx context.Context, t *table, image row) error {
	if partial(image) {
		return c.fetchAndPut(ctx, c.current, t, image)
	}
	kind := put
	if t.keyless() {
		kind = insert
	}
	return c.must(ctx, action{table: t, kind: kind, rows: []rowChange{{image, image}}, expect: uncounted})
}

// conflict records that the target was not as it had to be, or stops.
func (c careful) conflict(ctx context.Context, a action, r rowChange, what string) error {
	if c.config.Spec.OnConflict == migration.StopOnConflict {
		return &errStopped{a.table, a.kind, r.at, what, c.here()}
	}
	c.pipe.ledger(ctx, c.config.Lane.AddConflict(a.table.relid, c.here(), a.kind.String(), a.table.keyText(r.at), what))
	c.counted.Conflicts++
	return nil
}

// here is where the current transaction ends, or, as far as is known, where its commit is.
func (c careful) here() migration.LSN { return max(c.current.End, c.current.Commit) }

// keyText is for the ledger on the target, which may hold values; logs and faults may not.
func (t *table) keyText(at row) string {
	var parts []string
	for _, i := range t.key {
		parts = append(parts, t.given[i].name+"="+string(at[i].Data))
	}
	return strings.Join(parts, " ")
}

func (t *table) sameNormalKey(a, b row) bool {
	return bytes.Equal(t.appendKey(nil, a), t.appendKey(nil, b))
}

// fault is that of a conflict that the definition does not let the source win.
func (e *errStopped) fault() error {
	fault := migration.NewFault(migration.FaultConflict, e.kind.String()+" in", e.t.planned.Name.String(), errors.New(e.what),
		fmt.Sprintf("on the target: select * from dts_sync.conflict where relid = %d order by at desc; "+
			"mend the row there, or set onConflict: source-wins; then resume", e.t.relid))
	fault.Side = migration.Target
	return fault
}

const hintConstraint = "a constraint of the target refuses what the source holds: drop it, or remove the row that is in the way; then resume"

// fault is the fault of a change that the target refuses even in source order.
func (m *misfit) fault() error {
	t := m.table
	if t.advice != "" && pg.SQLState(m.err) == "23514" {
		return t.drift(errNoLeaf, "on the target: "+t.advice+"; then resume")
	}
	if m.err == nil {
		return migration.Faultf(migration.FaultBug, m.kind.String()+" in", t.planned.Name.String(), "%d rows were hit", m.hit)
	}
	fault, _ := migration.AsFault(pg.Fault(migration.Target, m.kind.String()+" in", t.planned.Name.String(), m.err))
	if strings.HasPrefix(fault.SQLState, "23") {
		fault.Kind, fault.Hint = migration.FaultConflict, hintConstraint
	}
	return fault
}

var (
	errNoLeaf        = errors.New("the target has no partition for a row")
	errLeafTruncated = errors.New("a partition was truncated that the target does not have")
)
