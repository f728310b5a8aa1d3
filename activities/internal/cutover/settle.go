package cutover

import (
	"context"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/compare"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Settle ends a migration without moving the writes: the target's sequences get the source's state where rows were moved,
// and what waits for the end is created. A stream must have ended; where nothing was streamed, what is said of it is left
// out. A second call does the same again. Objects that fail are a fault of kind object, unless the definition leaves them
// out.
func Settle(ctx context.Context, config Config) (ledger.Evidence, error) {
	a := &attempt{Config: config}
	defer a.close()
	if err := a.enter(ctx); err != nil {
		return ledger.Evidence{}, err
	}
	a.evidence.Verified = string(compare.MethodNone)
	for _, next := range []func(context.Context) error{a.noteMembers, a.settleSequences, a.createOpening, a.noteLateObjects} {
		if err := next(ctx); err != nil {
			return ledger.Evidence{}, err
		}
	}
	known, err := a.ledger().Read(ctx)
	if err != nil {
		return ledger.Evidence{}, a.Target.Fault("read ledger", string(config.Spec.ID), err)
	}
	a.evidence.Changes = known.Changes
	err = a.lane.RecordEvidence(ctx, a.target, a.evidence)
	return a.evidence, a.Target.Fault("record evidence of", string(config.Spec.ID), err)
}

func (a *attempt) noteLateObjects(ctx context.Context) error { return a.noteRights(ctx, a.target) }

// settleSequences leaves sequences at their start where no rows were moved that have taken values from them.
func (a *attempt) settleSequences(ctx context.Context) error {
	if !a.Spec.Has(migration.TypeFull) && !a.Spec.Has(migration.TypeIncremental) {
		return nil
	}
	if err := a.knowScope(ctx, nil); err != nil {
		return err
	}
	return a.moveSequences(ctx)
}

// noteMembers says which tables the target does not have as the source has them: nobody compares them here.
func (a *attempt) noteMembers(ctx context.Context) error {
	if !a.Spec.Has(migration.TypeIncremental) {
		return nil
	}
	tables, err := a.ledger().Tables(ctx)
	if err != nil {
		return a.Target.Fault("read tables of", string(a.Spec.ID), err)
	}
	found, err := a.strangers(ctx, a.source, tables)
	if err != nil {
		return err
	}
	a.noteOthers(found)
	if err := a.noteUnseen(ctx, tables); err != nil {
		return err
	}
	if len(found.silent) > 0 {
		a.note("tables whose changes were not in the stream, because they left the publication: %s", some(found.silent))
	}
	if len(found.gone) > 0 {
		a.note("tables that were dropped on the source after the plan: %s", some(found.gone))
	}
	if len(found.late) > 0 {
		a.note("%d partitions came after the plan: rows that they had before they were attached were not copied", len(found.late))
	}
	return nil
}

// noteUnseen names tables without a key that are not what the source has, where nobody copies them again.
func (a *attempt) noteUnseen(ctx context.Context, tables []ledger.Table) error {
	writes, err := catalog.Writes(ctx, a.source)
	if err != nil {
		return a.Source.Fault("read", "write counters", err)
	}
	var unseen, unknown []string
	_, keyless := split(tables)
	for _, table := range keyless {
		switch {
		case table.WriteBase < 0:
			unknown = append(unknown, table.Name.String())
		case writes[table.OID] != table.WriteBase:
			unseen = append(unseen, table.Name.String())
		}
	}
	if len(unknown) > 0 {
		a.note("tables of which nobody knows, since the source failed over, whether they were changed in ways that are not in the stream: %s",
			some(unknown))
	}
	if len(unseen) > 0 {
		a.note("tables that were changed on the source in ways that are not in the stream, and are not equal on the target: %s", some(unseen))
	}
	return nil
}

// createOpening may go object by object: no stream follows that a half of them could disturb.
func (a *attempt) createOpening(ctx context.Context) error {
	skip := schema.Options{SkipFailed: a.Spec.Schema.OnObjectFailure == "skip", Skip: a.Skip}
	if _, _, err := schema.Create(ctx, schemaConfig(a.Config, a.lane, a.Report), schema.Opening, skip); err != nil {
		return err
	}
	if err := makeAfter(ctx, a.Config, a.lane, a.Report); err != nil {
		if pg.SQLState(err) == "" {
			return err
		}
		a.note("after the end: %v", err)
	}
	return nil
}
