package bulk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// existing is what must be known of tables that were on the target before.
type existing struct {
	// strict tables have a unique or exclusion constraint on other columns than the key: rows of several snapshots may
	// break it that no single one does.
	strict map[migration.TableName]bool
	empty  map[migration.TableName]bool
}

// readUnique lists unique and exclusion indexes. Columns that an index only carries along came with 11.
const readUnique = `
select n.nspname::text, c.relname::text, i.indisexclusion,
       array(select coalesce(a.attname::text, '')
             from generate_series(0, coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts) - 1) p (n)
             left join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[p.n] and a.attnum > 0)
from unnest($1::text[], $2::text[]) w (schema, name)
join pg_namespace n on n.nspname = w.schema
join pg_class c on c.relnamespace = n.oid and c.relname = w.name
join pg_index i on i.indrelid = c.oid and (i.indisunique or i.indisexclusion)`

// lookAtExisting asks the target about tables that this migration has not made.
func (c Config) lookAtExisting(ctx context.Context, target *pgx.Conn, tables []mapping.Table) (existing, error) {
	keys := map[migration.TableName][]string{}
	var names []migration.TableName
	for _, t := range tables {
		if _, seen := keys[t.Target]; !seen && t.Existing && t.Kind != "p" {
			keys[t.Target] = t.TargetKey
			names = append(names, t.Target)
		}
	}
	strict, err := strictTables(ctx, target, names, keys)
	if err != nil {
		return existing{}, c.Target.Fault("read indexes of existing tables", "", err)
	}
	found := existing{strict: strict, empty: map[migration.TableName]bool{}}
	if !c.Spec.Has(migration.TypeFull) {
		return found, nil
	}
	for some := range slices.Chunk(names, askedTogether) {
		questions := make([]string, len(some))
		for i, name := range some {
			questions[i] = "not exists (select from " + name.SQL() + ")"
		}
		var empty []bool
		err := target.QueryRow(ctx, "select array["+strings.Join(questions, ", ")+"]", pgx.QueryExecModeExec).Scan(&empty)
		if err != nil {
			return existing{}, c.Target.Fault("look for rows in", tableNames(some), err)
		}
		for i, name := range some {
			found.empty[name] = empty[i]
		}
	}
	return found, nil
}

// askedTogether bounds the locks of one statement.
const askedTogether = 100

func tableNames(names []migration.TableName) string {
	if len(names) == 1 {
		return names[0].String()
	}
	return fmt.Sprintf("%s and %d other tables", names[0], len(names)-1)
}

func strictTables(ctx context.Context, target *pgx.Conn, names []migration.TableName, keys map[migration.TableName][]string) (map[migration.TableName]bool, error) {
	strict := map[migration.TableName]bool{}
	if len(names) == 0 {
		return strict, nil
	}
	var schemas, tables []string
	for _, name := range names {
		schemas, tables = append(schemas, name.Schema), append(tables, name.Name)
	}
	rows, err := target.Query(ctx, readUnique, schemas, tables)
	if err != nil {
		return nil, err
	}
	var name migration.TableName
	var exclusion bool
	var columns []string
	_, err = pgx.ForEachRow(rows, []any{&name.Schema, &name.Name, &exclusion, &columns}, func() error {
		if exclusion || !covers(columns, keys[name]) {
			strict[name] = true
		}
		return nil
	})
	return strict, err
}

// covers reports whether the columns hold a whole key: then rows that differ in the key differ in them.
func covers(columns, key []string) bool {
	return len(key) > 0 && !slices.ContainsFunc(key, func(column string) bool { return !slices.Contains(columns, column) })
}

// mustBeEmpty refuses rows that the definition neither keeps nor replaces.
func mustBeEmpty(t mapping.Table) error {
	return migration.NewFault(migration.FaultDrift, "plan", t.Target.String(),
		errors.New("the table on the target holds rows, and the copy would add to them"),
		"empty it and type: pgdts resume; or say conflict: ignore, which keeps them, and start anew")
}
