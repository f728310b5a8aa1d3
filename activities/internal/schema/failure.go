package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// skipFailed leaves out for good what failed.
func (r *run) skipFailed(ctx context.Context) error {
	for _, o := range r.objects {
		own := r.failed[o.No]
		if own == nil {
			continue
		}
		o.SQLState, o.Message, o.Hint = own.err.Code, own.err.Message, own.err.Hint
		if err := r.leaveOut(ctx, r.session, o); err != nil {
			return err
		}
		delete(r.failed, o.No)
		if err := r.AddNote(ctx, fmt.Sprintf("left out: %s: %s (SQLSTATE %s)", o.Title(), own.err.Message, own.err.Code)); err != nil {
			return err
		}
	}
	return nil
}

// settle writes the notes, and says what failed.
func (r *run) settle(ctx context.Context) error {
	if len(r.left) > 0 {
		note := "left out for want of a right or a role on the target: " + named(r.left)
		if err := r.AddNote(ctx, note); err != nil {
			return err
		}
	}
	if len(r.failed) > 0 {
		return r.objectFault()
	}
	return r.nothingForgotten()
}

// nothingForgotten refuses to call a section complete that is not: an object may wait for one of an earlier section
// that nobody has created.
func (r *run) nothingForgotten() error {
	for _, o := range r.objects {
		if r.open(o) {
			return migration.Faultf(migration.FaultObject, "create", o.Title(), "it needs an object of an earlier section that is not there")
		}
	}
	return nil
}

// objectFault names what failed; the first one's state and message are the fault's.
func (r *run) objectFault() error {
	var first ledger.Object
	var titles []string
	for _, o := range r.objects {
		if r.failed[o.No] == nil {
			continue
		}
		if titles == nil {
			first = o
		}
		titles = append(titles, o.Title())
	}
	return objectFault(r.ID, first, r.failed[first.No], titles)
}

func objectFault(id migration.ID, first ledger.Object, own *objectError, titles []string) error {
	cause := own.err.Message
	if len(titles) > 1 {
		cause += fmt.Sprintf("; %d objects failed: %s", len(titles), named(titles))
	}
	hint := fmt.Sprintf("mend the cause on the target and type `pgdts resume %s`; to leave the object out: `pgdts resume %[1]s --ignore '%s'`",
		id, strings.ReplaceAll(first.Title(), "'", `'\''`))
	fault := migration.NewFault(migration.FaultObject, "create", first.Title(), errors.New(cause), hint)
	fault.Side, fault.SQLState = migration.Target, own.err.Code
	return fault
}

const namedMax = 5

// named joins the first few.
func named(titles []string) string {
	text := ""
	for i, title := range titles[:min(len(titles), namedMax)] {
		if i > 0 {
			text += ", "
		}
		text += title
	}
	if more := len(titles) - namedMax; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
