package apply

import (
	"errors"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// event is one change of one row, in the columns of its table.
type event struct {
	op      wal.Op
	band    bool
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
		return e, t.checkKeyless(e, change)
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
	return migration.NewFault(migration.FaultDrift, "apply to", t.planned.Name.String(), cause,
		"give the table back the replica identity that it had; it must be copied again")
}

// take leaves out columns that carry no data of ours.
func (t *table) take(values []wal.Value) row {
	if values == nil || t.left == nil {
		return values
	}
	image := make(row, 0, len(t.columns))
	for i, value := range values {
		if !t.left[i] {
			image = append(image, value)
		}
	}
	return image
}
