package precheck

import (
	"context"
	"errors"
	"slices"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/activities/internal/pg"
)

// Only the server can say what it thinks of an expression. It is asked in a transaction that is rolled back, with a
// temporary table in the place of the real one: an index refuses subqueries, aggregates, functions that return sets, and
// what is not immutable; a check constraint all but the last. No right but TEMPORARY is needed, and no row is read.

// outcome is what a server says.
type outcome struct {
	trouble
	foreign bool // a type, function, operator or collation that a user or an extension has made is used
}

// trouble is a server's refusal; without a message there is none.
type trouble struct {
	message, hint, state string
	position             int // character in the expression, from 1; 0 = not told
}

// absent: something that is named is not there.
func (t trouble) absent() bool {
	return slices.Contains([]string{
		"42704", // undefined object, such as a type
		"42883", // undefined function
		"42703", // undefined column: one whose type is lacking is left out of the temporary table
		"42P01", // undefined table
		"3F000", // invalid schema name
	}, t.state)
}

// try asks one server about the expressions of one table.
func (t *trials) try(ctx context.Context, s session, table shape, some []expression) ([]outcome, error) {
	tx, err := s.conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadWrite})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	err = alone(ctx, tx, "create temporary table pgdts_row ("+table.definitions()+") on commit drop")
	if pg.SQLState(err) == "42501" {
		if err := tx.Rollback(ctx); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(t.unsure, func(u session) bool { return u.conn == s.conn }) {
			t.unsure = append(t.unsure, s)
		}
		return s.explain(ctx, table, some)
	}
	found := make([]outcome, len(some))
	if lack, err := troubleOf(err, "", ""); err != nil || lack.message != "" {
		for i := range found { // such as a collation that this server does not have
			found[i].trouble = trouble{message: lack.message, hint: lack.hint, state: lack.state}
		}
		return found, err
	}
	for i, e := range some {
		if found[i], err = inTable(ctx, tx, table, e); err != nil {
			return nil, err
		}
	}
	return found, nil
}

const usesForeign = `
select exists (
    select from pg_constraint k
    join pg_depend d on d.classid = 'pg_constraint'::regclass and d.objid = k.oid
    left join pg_attribute a on d.refclassid = 'pg_class'::regclass and a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    where k.conrelid = 'pg_temp.pgdts_row'::regclass
      and (a.atttypid >= 16384 or d.refclassid <> 'pg_class'::regclass and d.refobjid >= 16384))`

// inTable asks in a savepoint, so that the next one finds the table as it was.
func inTable(ctx context.Context, tx pgx.Tx, table shape, e expression) (outcome, error) {
	var found outcome
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return found, err
	}
	defer func() { _ = savepoint.Rollback(ctx) }()
	behind := table.behind(e)
	// A check constraint does not tell where the trouble is; the others do.
	first, end := "create index on pg_temp.pgdts_row (", ")"
	if e.stamp {
		first, end = "explain select ", " from pg_temp.pgdts_row"
	}
	found.trouble, err = troubleOf(alone(ctx, tx, first+before+e.text+behind+end), first+before, e.text)
	if err != nil || found.message != "" {
		return found, err
	}
	const second = "alter table pg_temp.pgdts_row add check ("
	found.trouble, err = troubleOf(alone(ctx, tx, second+before+e.text+behind+")"), second+before, e.text)
	if err != nil || found.message != "" {
		return found, err
	}
	return found, tx.QueryRow(ctx, usesForeign).Scan(&found.foreign)
}

// explain asks without a table: what the expression means, but not whether it is immutable.
func (s session) explain(ctx context.Context, table shape, some []expression) ([]outcome, error) {
	found := make([]outcome, len(some))
	for i, e := range some {
		behind := table.behind(e)
		head := "explain select "
		tx, err := s.conn.Begin(ctx)
		if err != nil {
			return nil, err
		}
		err = alone(ctx, tx, head+before+e.text+behind+" from (select "+table.nulls()+") pgdts_row limit 0")
		found[i].trouble, err = troubleOf(err, head+before, e.text)
		if err = errors.Join(err, tx.Rollback(ctx)); err != nil {
			return nil, err
		}
		found[i].foreign = true // nobody has told
	}
	return found, nil
}

// alone runs one statement by the extended protocol, which takes no second one: the text is a person's.
func alone(ctx context.Context, tx pgx.Tx, sql string) error {
	return tx.Conn().PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Read().Err
}

// troubleOf takes the server's word about an expression, and leaves an error of the session an error.
func troubleOf(err error, head, text string) (trouble, error) {
	var said *pgconn.PgError
	if !errors.As(err, &said) || said.Code[:2] == "57" || said.Code[:2] == "08" || said.Code == "55P03" {
		return trouble{}, err
	}
	t := trouble{message: said.Message, hint: said.Hint, state: said.Code}
	length := utf8.RuneCountInString(text)
	if at := int(said.Position) - utf8.RuneCountInString(head); at > 0 {
		t.position = min(at, length+1)
	}
	return t, nil
}
