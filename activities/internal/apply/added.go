package apply

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// readAdded tells how a column was added. What rows have that were there before stands in the catalog where it is a constant
// (from 11 on): later defaults do not change it.
const readAdded = `
select a.attnotnull, a.attidentity <> '', coalesce(pg_get_expr(d.adbin, d.adrelid), ''), a.attcollation <> t.typcollation, %s
from pg_attribute a join pg_type t on t.oid = a.atttypid
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = $1 and a.attname = $2 and not a.attisdropped and a.atttypid = $3 and a.atttypmod = $4`

// constant is a default as the server writes a literal: anything else may be another value for every row.
var constant = regexp.MustCompile(`^(\(?-?[0-9.]+\)?|true|false|'([^']|'')*')(::[a-z ]+(\([0-9, ]+\))?(\[\])?)?$`)

// added describes a column that is new on the source. The statement that adds it gives rows which were there the value that
// they have on the source, for which the source sends no change.
func (a *Applier) added(ctx context.Context, t *table, column wal.RelationColumn, typ string, there *counterpart) (alteration, error) {
	each := alteration{text: fmt.Sprintf("column %s %s added", migration.Quote(column.Name), typ)}
	if t.chosen() {
		return each, nil // it is left out
	}
	typ, err := a.typeThere(ctx, column, typ)
	if err != nil {
		return each, err
	}
	if at, exists := there.columns[column.Name]; exists && at.typ == typ {
		return each, nil
	}
	var notNull, identity, collated bool
	var expression string
	var missing *string
	err = a.onSource(ctx, "read column", t.planned.Name.String()+"."+column.Name, func(conn *pgx.Conn) error {
		version, err := pg.Version(ctx, conn)
		if err != nil {
			return err
		}
		old := "null::text"
		if version >= 110000 {
			old = "case when a.atthasmissing then (a.attmissingval::text::text[])[1] end"
		}
		return conn.QueryRow(ctx, fmt.Sprintf(readAdded, old), t.planned.OID, column.Name, column.TypeOID, column.TypeMod).
			Scan(&notNull, &identity, &expression, &collated, &missing)
	})
	add := fmt.Sprintf("%s add column %s %s", there.alter, migration.Quote(column.Name), typ)
	if errors.Is(err, pgx.ErrNoRows) { // it has changed again since
		each.remedy = add + " (with the default that it had on the source)"
		return each, nil
	}
	if err != nil {
		return each, err
	}
	each.remedy = add
	if expression != "" {
		each.remedy += " default " + expression
	}
	if notNull {
		each.remedy += " not null"
	}
	builtIn := column.TypeOID < firstUserOID && !identity && !collated
	switch {
	case !builtIn || expression != "" && !constant.MatchString(expression):
	case missing != nil:
		each.safe = addWithDefault(there.alter, column.Name, typ, *missing, expression, notNull)
	case expression == "" && !notNull:
		each.safe = []string{add}
	}
	return each, nil
}

// addWithDefault gives rows that are there their value, and rows to come the default, which may be another one by now.
func addWithDefault(table, name, typ, missing, expression string, notNull bool) []string {
	column := migration.Quote(name)
	add := fmt.Sprintf("%s add column %s %s default %s::%s", table, column, typ, migration.Literal(missing), typ)
	if notNull {
		add += " not null"
	}
	if expression == "" {
		return []string{add, table + " alter column " + column + " drop default"}
	}
	return []string{add, table + " alter column " + column + " set default " + expression}
}

// followLock bounds the wait for readers of the target's table, which hold up the stream meanwhile.
const followLock = "set local lock_timeout = '30s'"

// follow alters the target's table in the open transaction, so that it commits with the first changes that need it, or not
// at all.
func (a *Applier) follow(ctx context.Context, t *table, statements []string) error {
	for _, statement := range append([]string{followLock}, statements...) {
		if _, err := a.conn.Exec(ctx, statement); err != nil {
			return a.config.Target.Fault("follow the source's change of", t.planned.Name.String(), err)
		}
	}
	a.config.Logger.Info("followed a change of a table", zap.String(migration.KeyTable, t.planned.Name.String()), zap.Strings("statements", statements))
	return nil
}
