package apply

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Several tables may be written into one: sources of a merge, and partitions where the target's tree is another one. No two
// of them have a key at one moment, but a row may go from one to the other. Tables are gathered apart, so that what comes
// later of one could be written before what came earlier of the other: a row would be deleted that has just arrived. So
// whoever is about to gather a change of a key lets the one go first who has gathered something about it.

// ownedKey is a row of the target.
type ownedKey struct {
	target migration.TableName
	key    string
}

// share notes which tables meet.
func (a *Applier) share() {
	groups := map[migration.TableName][]*table{}
	for _, t := range a.tables {
		if !t.root() {
			groups[t.target] = append(groups[t.target], t)
		}
	}
	for _, group := range groups {
		for _, t := range group {
			t.meets = slices.ContainsFunc(group, func(other *table) bool { return other != t && !t.apart(other) })
			t.blind = t.meets && slices.ContainsFunc(group, func(other *table) bool { return !t.keyedLike(other) })
		}
	}
}

// root reports whether it is above partitions and holds no rows.
func (t *table) root() bool { return t.planned.Mode == migration.ModeRoot || t.planned.Kind == "p" }

// apart reports whether a column of the target's key is another constant in each of the two.
func (t *table) apart(other *table) bool {
	return slices.ContainsFunc(t.planned.TargetKey, func(name string) bool {
		a, b := t.into(name), other.into(name)
		return a.Set != "" && b.Set != "" && len(a.Reads) == 0 && len(b.Reads) == 0 && a.Set != b.Set
	})
}

// keyedLike reports whether equal keys of the two have equal texts on the source.
func (t *table) keyedLike(other *table) bool {
	return !slices.ContainsFunc(t.planned.TargetKey, func(name string) bool {
		a, b := t.into(name), other.into(name)
		if a.Set != "" || b.Set != "" {
			return a.Set != b.Set || len(a.Reads) > 0
		}
		from, _ := t.planned.Column(a.Source)
		to, _ := other.planned.Column(b.Source)
		return from.TypeOID != to.TypeOID || from.TypeOID == 0
	})
}

// into is a column of the target.
func (t *table) into(name string) mapping.Column {
	for _, c := range t.planned.Into {
		if c.Name == name {
			return c
		}
	}
	return mapping.Column{}
}

// giveWay writes what others have gathered about the keys of a change.
func (w *walk) giveWay(ctx context.Context, f *fold, e *event) error {
	t := f.table
	if !t.meets || t.keyless() {
		return nil
	}
	if t.blind || t.serial {
		for _, other := range w.order {
			if other == f || other.table.target != t.target {
				continue
			}
			if err := other.flush(ctx, w); err != nil {
				return err
			}
		}
		return nil
	}
	if err := w.own(ctx, f, e.at); err != nil || !e.moved {
		return err
	}
	return w.own(ctx, f, e.image)
}

// own makes a fold the one that has gathered the last of a key.
func (w *walk) own(ctx context.Context, f *fold, image row) error {
	key := ownedKey{f.table.target, f.table.keyThere(image)}
	owner := w.owners[key]
	w.owners[key] = f
	if owner == nil || owner == f {
		return nil
	}
	return owner.flush(ctx, w)
}

// keyThere is the same for equal keys of the tables that it meets: it has the target's columns in the order of their names.
func (t *table) keyThere(image row) string {
	var key []byte
	for _, i := range t.sorted {
		value := t.columns[i]
		if value.set != "" { // a constant that it has in common with the others
			continue
		}
		text := formOf(value).normal(image[value.from].Data)
		key = append(binary.AppendUvarint(key, uint64(len(text))), text...)
	}
	return string(key)
}
