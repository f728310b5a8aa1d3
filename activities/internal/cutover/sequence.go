package cutover

import (
	"context"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/workflows/migration"
)

// setSequences runs under the fence. nextval takes no lock that the fence holds: values that somebody takes and cannot
// write are lost, as they are in a rollback.
func (a *attempt) setSequences(ctx context.Context) error {
	a.at(stepSequences)
	a.say("", 0, 0)
	if err := a.moveSequences(ctx); err != nil {
		return err
	}
	a.Logger.Info("set sequences", zap.Int("sequences", a.evidence.Sequences))
	return failpoint.Hit(failpoint.CutoverSequences)
}

// moveSequences gives the target's sequences the state of the source's that the definition means.
func (a *attempt) moveSequences(ctx context.Context) error {
	sequences, err := catalog.Sequences(ctx, a.source)
	if err != nil {
		return a.Source.Fault("read", "sequences", err)
	}
	moves := a.moves(sequences)
	if err := a.findOwned(ctx, moves); err != nil {
		return err
	}
	missing, err := a.applyMoves(ctx, moves)
	if err != nil {
		return a.Target.Fault("set", "sequences", err)
	}
	if len(missing) > 0 {
		a.note("sequences that the target does not have: %s", some(missing))
	}
	a.evidence.Sequences = len(moves) - len(missing)
	return nil
}

// move is one sequence of the target and the state that it gets.
type move struct {
	catalog.Sequence
	target migration.TableName
	// forward: the target may have handed out values of its own, which must not be handed out again.
	forward bool
}

// moves chooses sequences. Where several become one, the furthest counts.
func (a *attempt) moves(sequences []catalog.Sequence) []move {
	var moves []move
	known := map[migration.TableName]int{}
	for _, sequence := range sequences {
		target, chosen := a.scope.selection.Sequence(sequence)
		if !chosen {
			continue
		}
		next := move{sequence, target, !a.Spec.Has(migration.TypeSchema) || a.Spec.Conflict == migration.ConflictIgnore}
		i, twice := known[target]
		switch {
		case !twice:
			known[target] = len(moves)
			moves = append(moves, next)
		case further(next, moves[i]):
			moves[i] = next
		}
	}
	return moves
}

func further(a, b move) bool {
	if a.Increment < 0 {
		return a.Last < b.Last
	}
	return a.Last > b.Last
}

// ownedSequence is the sequence behind a column, under whatever name.
const ownedSequence = `
select w.no, n.nspname, s.relname
from unnest($1::text[], $2::text[], $3::text[]) with ordinality w (schema, name, col, no)
join pg_namespace m on m.nspname = w.schema
join pg_class c on c.relnamespace = m.oid and c.relname = w.name
join pg_attribute a on a.attrelid = c.oid and a.attname = w.col and not a.attisdropped
join pg_depend d on d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid
    and d.refobjsubid = a.attnum and d.deptype in ('a', 'i')
join pg_class s on s.oid = d.objid and s.relkind = 'S'
join pg_namespace n on n.oid = s.relnamespace`

// findOwned names the sequences of tables that were there before, which may have other names than the source's.
func (a *attempt) findOwned(ctx context.Context, moves []move) error {
	tables, err := a.ledger().Tables(ctx)
	if err != nil {
		return a.Target.Fault("read tables of", string(a.Spec.ID), err)
	}
	var schemas, names, columns []string
	var which []int
	for i, m := range moves {
		for _, table := range tables {
			if !table.Existing || table.Name != m.Owner {
				continue
			}
			for _, column := range table.Into {
				if column.Source == m.Column {
					which = append(which, i)
					schemas, names, columns = append(schemas, table.Target.Schema), append(names, table.Target.Name), append(columns, column.Name)
				}
			}
		}
	}
	if len(which) == 0 {
		return nil
	}
	rows, err := a.target.Query(ctx, ownedSequence, schemas, names, columns)
	if err != nil {
		return a.Target.Fault("look for", "sequences", err)
	}
	var no int
	var name migration.TableName
	_, err = pgx.ForEachRow(rows, []any{&no, &name.Schema, &name.Name}, func() error {
		moves[which[no-1]].target = name
		return nil
	})
	return a.Target.Fault("look for", "sequences", err)
}

// setSequence gives last_value and is_called exactly. A margin counts values in the sequence's direction and stops at its
// bounds; without a margin a value out of the target's bounds is an error, since the sequence is then another one.
const setSequence = `
select v.no, case when b.ahead then b.there else setval(c.oid, case when $6 = 0 then v.last
    else greatest(s.seqmin, least(s.seqmax, v.last + $6::numeric * s.seqincrement))::bigint end, v.called) end
from unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[], $5::boolean[]) with ordinality v (schema, name, last, called, forward, no)
join pg_namespace n on n.nspname = v.schema
join pg_class c on c.relnamespace = n.oid and c.relname = v.name and c.relkind = 'S'
join pg_sequence s on s.seqrelid = c.oid
cross join lateral (select case when v.forward then pg_sequence_last_value(c.oid) end as there) w
cross join lateral (select w.there, coalesce((w.there::numeric - v.last) * sign(s.seqincrement) > 0, false) as ahead) b`

// applyMoves sets the target's sequences, and returns the names of those that are not there.
func (a *attempt) applyMoves(ctx context.Context, moves []move) (missing []string, err error) {
	var schemas, names []string
	var lasts []int64
	var called, forward []bool
	for _, m := range moves {
		schemas, names = append(schemas, m.target.Schema), append(names, m.target.Name)
		lasts, called, forward = append(lasts, m.Last), append(called, m.Called), append(forward, m.forward)
	}
	set := make([]bool, len(moves))
	err = pgx.BeginFunc(ctx, a.target, func(tx pgx.Tx) error {
		if err := a.lane.Guard(ctx, tx); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, setSequence, schemas, names, lasts, called, forward, a.Spec.Cutover.SequenceMargin)
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
	for i, m := range moves {
		if err == nil && !set[i] {
			missing = append(missing, m.target.String())
		}
	}
	return missing, err
}
