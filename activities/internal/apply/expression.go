package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/syntax"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// side is one of the two images of a row in a statement. The values of x have names with its prefix, and what was
// computed of them has its alias.
type side struct{ prefix, alias string }

// Rows are found by what they were before.
var (
	before = side{"o", "k"}
	after  = side{"n", "e"}
)

// value is SQL for a column of the target.
func (t *table) value(s side, i int) string {
	c := &t.columns[i]
	if c.set != "" {
		return fmt.Sprintf("%s.s%d", s.alias, i)
	}
	return fmt.Sprintf("x.%s%d::%s", s.prefix, c.from, c.cast)
}

// evaluate is the FROM item behind x that computes columns, and keep, which the filter says; "" where there is nothing to
// compute. Expressions see the source's row: its columns under their names and with their types.
func (t *table) evaluate(s side, columns []int, filtered bool) string {
	var results []string
	var reads []int
	for _, i := range columns {
		c := &t.columns[i]
		if c.set == "" {
			continue
		}
		results = append(results, fmt.Sprintf("(%s\n)::%s as s%d", c.set, c.cast, i))
		reads = append(reads, c.reads...)
	}
	if filtered {
		results = append(results, "("+t.condition+"\n) as keep")
		reads = append(reads, t.needs...)
	}
	if len(results) == 0 {
		return ""
	}
	slices.Sort(reads)
	var values []string
	for _, i := range slices.Compact(reads) {
		g := &t.given[i]
		values = append(values, fmt.Sprintf("x.%s%d::%s as %s", s.prefix, i, g.seen, migration.Quote(g.name)))
	}
	return fmt.Sprintf(" cross join lateral (select %s from (select %s) as r) as %s", strings.Join(results, ", "),
		strings.Join(values, ", "), s.alias)
}

// reading is what a table's expressions are on the target, and what they read.
type reading struct {
	condition string            // "" = every row is wanted
	needs     []string          // columns of the source that the condition reads
	sets      map[string]string // by column of the target
	reads     map[string]bool   // columns of the source
}

// read names things in a table's expressions as the target does.
func (a *Applier) read(ctx context.Context, t *table) (reading, error) {
	r := reading{sets: map[string]string{}, reads: map[string]bool{}}
	rename := func(text string) (string, error) {
		if spec := &a.config.Spec; len(spec.Objects) == 0 && spec.Names.Case == migration.CaseSource {
			return text, nil
		}
		names, err := a.named(ctx)
		if err != nil || names.Same() {
			return text, err
		}
		renamed, err := syntax.RenameExpression(text, names)
		if err != nil {
			err = t.drift(err, hintExpression)
		}
		return renamed, err
	}
	var err error
	if condition := t.planned.RowCondition(); condition != "" {
		use, err := syntax.Expression(condition)
		if err != nil {
			return r, t.drift(err, hintExpression)
		}
		r.needs = use.Columns
		if r.condition, err = rename(condition); err != nil {
			return r, err
		}
	}
	for _, c := range t.planned.Into {
		if c.Set == "" {
			continue
		}
		if r.sets[c.Name], err = rename(c.Set); err != nil {
			return r, err
		}
		for _, name := range c.Reads {
			r.reads[name] = true
		}
	}
	for _, name := range r.needs {
		r.reads[name] = true
	}
	return r, nil
}

const hintExpression = "start the migration anew with another expression in the definition"

// named is how the definition names things on the target. The source is asked once.
func (a *Applier) named(ctx context.Context) (mapping.Names, error) {
	if a.names != nil {
		return *a.names, nil
	}
	selection, err := a.selected(ctx)
	if err != nil {
		return mapping.Names{}, err
	}
	a.names = &selection.Names
	return selection.Names, nil
}

// selected is what the definition means on the source now.
func (a *Applier) selected(ctx context.Context) (mapping.Selection, error) {
	var selection mapping.Selection
	err := a.onSource(ctx, "read what the definition means", "", func(conn *pgx.Conn) (err error) {
		selection, _, err = mapping.Read(ctx, conn, a.config.Spec)
		return err
	})
	return selection, err
}

// nameSeen names types on the target, which has the built-in ones under the source's numbers.
const nameSeen = `
select coalesce((select format_type(t.oid, -1) from pg_type t where t.oid = o), '') from unnest($1::oid[]) with ordinality as u(o, n) order by n`

// firstUserOID is FirstNormalObjectId: types below it are the server's.
const firstUserOID = 16384

// seenTypes are the types as which expressions see the columns of a relation, "" where none reads one. They are the
// source's, so that both servers evaluate the same.
func (a *Applier) seenTypes(ctx context.Context, t *table, relation *wal.Relation, reads map[string]bool, there *counterpart) ([]string, error) {
	seen := make([]string, len(relation.Columns))
	if len(reads) == 0 {
		return seen, nil
	}
	oids := make([]uint32, len(seen))
	for i, column := range relation.Columns {
		oids[i] = column.TypeOID
	}
	rows, err := a.conn.Query(ctx, nameSeen, oids)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	for i, column := range relation.Columns {
		planned := t.plannedColumn(column.Name)
		if planned == nil || !reads[column.Name] {
			continue
		}
		if column.TypeOID >= firstUserOID {
			if names[i], err = a.userType(ctx, column.TypeOID); err != nil {
				return nil, err
			}
		}
		if into := t.direct(column.Name); names[i] == "" && into != nil {
			names[i] = there.columns[into.Name].cast
		}
		if names[i] == "" {
			return nil, t.drift(fmt.Errorf("the target has no type %s, as which an expression reads column %s", planned.Type, column.Name),
				"create it there as it is on the source; then resume")
		}
		seen[i] = names[i]
		if planned.Collation != "" {
			seen[i] += " collate " + planned.Collation
		}
	}
	return seen, nil
}

// readType names a type, or the one that an array is of.
const readType = `
select n.nspname::text, t.typname::text, t.oid <> $1 from pg_type a
join pg_type t on t.oid = case when a.typcategory = 'A' and a.typelem <> 0 then a.typelem else a.oid end
join pg_namespace n on n.oid = t.typnamespace
where a.oid = $1`

// userType is the target's name of a user's type of the source, "" when one of the two has it no longer.
func (a *Applier) userType(ctx context.Context, oid uint32) (string, error) {
	key := typeKey{oid: oid, target: true}
	if name, known := a.types[key]; known {
		return name, nil
	}
	names, err := a.named(ctx)
	if err != nil {
		return "", err
	}
	var name migration.TableName
	var array bool
	err = a.onSource(ctx, "name types", "", func(conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, readType, oid).Scan(&name.Schema, &name.Name, &array)
		if errors.Is(err, pgx.ErrNoRows) { // it was dropped
			return nil
		}
		return err
	})
	if err != nil || name.Name == "" {
		return "", err
	}
	text := names.Relation(name).SQL()
	if array {
		text += "[]"
	}
	err = a.conn.QueryRow(ctx, "select case when to_regtype($1::text) is null then '' else $1::text end", text).Scan(&text)
	if err == nil && text != "" {
		a.types[key] = text
	}
	return text, err
}
