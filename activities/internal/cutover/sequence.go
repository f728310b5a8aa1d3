package cutover

import (
	"context"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
)

// setSequences runs under the fence. nextval takes no lock that the fence holds: values that somebody takes and cannot
// write are lost, as they are in a rollback.
func (a *attempt) setSequences(ctx context.Context) error {
	a.at(stepSequences)
	a.say("", 0, 0)
	sequences, err := catalog.Sequences(ctx, a.source)
	if err != nil {
		return a.Source.Fault("read", "sequences", err)
	}
	missing, err := applySequences(ctx, a.target, a.lane, sequences, a.Spec.Cutover.SequenceMargin)
	if err != nil {
		return a.Target.Fault("set", "sequences", err)
	}
	if len(missing) > 0 {
		a.note("sequences that the target does not have: %s", some(missing))
	}
	a.evidence.Sequences = len(sequences) - len(missing)
	a.Logger.Info("set sequences", zap.Int("sequences", a.evidence.Sequences))
	return failpoint.Hit(failpoint.CutoverSequences)
}

// setSequence gives last_value and is_called exactly. A margin counts values in the sequence's direction and stops at its
// bounds; without a margin a value out of the target's bounds is an error, since the sequence is then another one.
const setSequence = `
select v.no, setval(c.oid, case when $5 = 0 then v.last
                                else greatest(s.seqmin, least(s.seqmax, v.last + $5::numeric * s.seqincrement))::bigint end, v.called)
from unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[]) with ordinality v (schema, name, last, called, no)
join pg_namespace n on n.nspname = v.schema
join pg_class c on c.relnamespace = n.oid and c.relname = v.name and c.relkind = 'S'
join pg_sequence s on s.seqrelid = c.oid`

// applySequences sets the target's sequences of the same names, and returns the names of those that are not there.
func applySequences(ctx context.Context, conn *pgx.Conn, lane ledger.Lane, sequences []catalog.Sequence, margin int64) (missing []string, err error) {
	var schemas, names []string
	var lasts []int64
	var called []bool
	for _, sequence := range sequences {
		schemas, names = append(schemas, sequence.Name.Schema), append(names, sequence.Name.Name)
		lasts, called = append(lasts, sequence.Last), append(called, sequence.Called)
	}
	set := make([]bool, len(sequences))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := lane.Guard(ctx, tx); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, setSequence, schemas, names, lasts, called, margin)
		if err != nil {
			return err
		}
		var no, value int64
		_, err = pgx.ForEachRow(rows, []any{&no, &value}, func() error {
			set[no-1] = true
			return nil
		})
		return err
	})
	for i, sequence := range sequences {
		if err == nil && !set[i] {
			missing = append(missing, sequence.Name.String())
		}
	}
	return missing, err
}
