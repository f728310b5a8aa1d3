package apply

import (
	"errors"
	"fmt"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// event is one change of one row, in the columns of its table.
type event struct {
	op      wal.Op
	band    bool // it converges
	settled bool // it converges, but the row is as it was on the source before the change, if it is there at all
	only    bool // it never inserts
	moved   bool // the key's text changed
	partial bool // image lacks values that were not sent
	at      row  // finds the row: key columns are set, or all when the table has no key
	image   row  // the new row
}

// event reads a change. What it returns may share memory with the change.
func (t *table) event(change *wal.Change, regime regime) (event, error) {
	e := event{op: change.Op, band: regime == band, image: t.take(change.New), at: t.take(change.Old)}
	if e.at == nil {
		e.at = e.image
	} else if e.image != nil {
		e.complete(t, change.OldFull)
	}
	if t.keyless() {
		e.only = t.converges && !t.wants(wal.Insert)
		return e, t.checkKeyless(e, change)
	}
	if t.converges {
		e.band, e.settled, e.only = true, regime == exact && !t.fromNow, !t.wants(wal.Insert)
	}
	if e.image != nil {
		e.moved = !t.sameKey(e.at, e.image)
		e.partial = partial(e.image)
	}
	for _, column := range t.key {
		if e.at[column].Kind != wal.Text || e.image != nil && e.image[column].Kind != wal.Text {
			return e, t.weak(errors.New("the source sent a change without its key"))
		}
	}
	if e.partial && t.computed {
		return e, t.checkPartial(e.image)
	}
	return e, nil
}

// complete takes what was not sent from the old row: everything when it is full, else a TOASTed key, which is sent as
// the old key although it did not change.
func (e *event) complete(t *table, full bool) {
	if full {
		e.image = fill(e.image, e.at)
		return
	}
	for _, column := range t.key {
		if e.image[column].Kind == wal.Unchanged {
			e.image = append(row(nil), e.image...)
			e.image[column] = e.at[column]
		}
	}
}

// checkPartial refuses an image that lacks what must be known: of a filtered table every value, since the row may enter,
// and of an expression all that it reads or nothing, since then its value did not change either.
func (t *table) checkPartial(image row) error {
	if t.condition != "" {
		return t.identityLost(errors.New("a row was updated, and the source does not send all the values that its filter makes necessary"))
	}
	mask := absent(image)
	for i := range t.columns {
		c := &t.columns[i]
		if missing := c.missing(mask); missing > 0 && missing < len(c.reads) {
			return t.identityLost(fmt.Errorf("a row was updated, and the source does not send all the values that column %s is computed from", c.name))
		}
	}
	return nil
}

func (t *table) identityLost(cause error) error {
	return t.drift(cause, "on the source: alter table "+t.planned.Name.SQL()+" replica identity full; "+
		"the changes that it did not send in full are lost, so that the table must be copied again")
}

func (t *table) checkKeyless(e event, change *wal.Change) error {
	if change.Op != wal.Insert && !change.OldFull {
		return t.weak(errors.New("a row was updated or deleted, and the source does not tell which"))
	}
	if e.band {
		return migration.Faultf(migration.FaultBug, "apply to", t.planned.Name.String(),
			"a table without key was copied under more than one snapshot")
	}
	if e.image != nil && partial(e.image) {
		return t.weak(errors.New("a value is missing in a full old row"))
	}
	return nil
}

func (t *table) weak(cause error) error {
	return t.drift(cause, "give the table back the replica identity that it had; it must be copied again")
}

// take leaves out columns that carry no data of ours.
func (t *table) take(values []wal.Value) row {
	if values == nil || t.left == nil {
		return values
	}
	image := make(row, 0, len(t.given))
	for i, value := range values {
		if !t.left[i] {
			image = append(image, value)
		}
	}
	return image
}
