package schema

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/syntax"
	"github.com/pgdts/pgdts/workflows/migration"
)

// typeKinds are the kinds whose names are those of types.
var typeKinds = []string{"TYPE", "DOMAIN", "SHELL TYPE"}

// inTargetNames gives the entries' names, SQL and statements that drop them in names of the target. What the parser cannot
// rewrite keeps its text and has an error, by its number: it must not be created.
func inTargetNames(ctx context.Context, entries []Entry, names mapping.Names, f facts) ([]Entry, map[int]error, error) {
	if names.Same() {
		return entries, nil, nil
	}
	renamed, failures := make([]Entry, len(entries)), make([]error, len(entries))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	const share = 100
	for first := 0; first < len(entries); first += share {
		group.Go(func() error {
			for i := first; i < min(first+share, len(entries)); i++ {
				renamed[i], failures[i] = inNames(entries[i], names, f)
			}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	errs := map[int]error{}
	for i, err := range failures {
		if err != nil {
			errs[entries[i].ID] = err
		}
	}
	return renamed, errs, nil
}

func inNames(e Entry, names mapping.Names, f facts) (Entry, error) {
	to := e
	to.Schema, to.Tag = nameInTarget(e, names, f)
	if e.Kind == "SCHEMA" {
		to.DDL, to.Drop = "CREATE SCHEMA "+migration.Quote(to.Tag)+";", "DROP SCHEMA "+migration.Quote(to.Tag)+";"
		return to, nil
	}
	var errs [2]error
	to.DDL, errs[0] = rename(e.DDL, names)
	to = withIndexNames(to, e, names, f)
	if to.Drop = dropInTarget(to, e, names, f); to.Drop == "" {
		to.Drop, errs[1] = rename(e.Drop, names)
	}
	return to, errors.Join(errs[:]...)
}

// dropInTarget spares the parser what drops the kinds that there are thousands of; "" where it must read.
func dropInTarget(to, e Entry, names mapping.Names, f facts) string {
	name := migration.TableName{Schema: to.Schema, Name: to.Tag}.SQL()
	table, part := names.Relation(f.relations[f.owner(e)].Name), f.partOf(e)
	switch {
	case e.Kind != "INDEX" && !strings.HasPrefix(e.Drop, "ALTER TABLE ") && !strings.HasPrefix(e.Drop, "DROP "+e.Kind+" "):
	case slices.Contains(relationKinds, e.Kind), e.Kind == "INDEX":
		return "DROP " + e.Kind + " " + name + ";"
	case part == "" || table.Name == "":
	case strings.HasPrefix(e.Drop, "ALTER TABLE ONLY "):
		return "ALTER TABLE ONLY " + table.SQL() + " DROP CONSTRAINT " + migration.Quote(part) + ";"
	case strings.HasPrefix(e.Drop, "ALTER TABLE "):
		return "ALTER TABLE " + table.SQL() + " DROP CONSTRAINT " + migration.Quote(part) + ";"
	case e.Kind == "TRIGGER", e.Kind == "RULE", e.Kind == "POLICY":
		return "DROP " + e.Kind + " " + migration.Quote(part) + " ON " + table.SQL() + ";"
	}
	return ""
}

// withIndexNames names indexes as the target does. In pg_dump's text an index has the schema of its table, but the text
// does not say which table that is, which may have gone to another schema than the rest.
func withIndexNames(to, e Entry, names mapping.Names, f facts) Entry {
	name := names.Relation(migration.TableName{Schema: e.Schema, Name: strings.TrimPrefix(e.Tag, "INDEX ")})
	switch {
	case e.Kind == "INDEX ATTACH":
		if root, ok := f.attached[migration.TableName{Schema: e.Schema, Name: e.Tag}]; ok {
			to.DDL = "ALTER INDEX " + names.Relation(root).SQL() + " ATTACH PARTITION " + name.SQL() + ";"
		}
	case e.Kind == "COMMENT" && strings.HasPrefix(e.Tag, "INDEX "):
		if _, text, ok := strings.Cut(to.DDL, " IS "); ok {
			to.DDL = "COMMENT ON INDEX " + name.SQL() + " IS " + text
		}
	}
	return to
}

func rename(sql string, names mapping.Names) (string, error) {
	if sql == "" || strings.HasPrefix(sql, "--") {
		return sql, nil
	}
	renamed, err := syntax.Rename(sql, names)
	if err != nil {
		return sql, fmt.Errorf("its SQL cannot be given the target's names: %w", err)
	}
	return renamed, nil
}

// namedAsRelation are kinds whose tag is the name of a relation or of a type.
var namedAsRelation = append([]string{
	"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE", "SEQUENCE OWNED BY", "INDEX", "TABLE ATTACH", "INDEX ATTACH",
	"ROW SECURITY",
}, typeKinds...)

// nameInTarget is what the ledger calls an entry. Tags of what belongs to a table begin with the table's name.
func nameInTarget(e Entry, names mapping.Names, f facts) (schema, tag string) {
	if e.Kind == "SCHEMA" {
		return "", names.Schema(e.Tag)
	}
	if e.Schema == "" {
		return "", e.Tag
	}
	if slices.Contains(namedAsRelation, e.Kind) {
		name := names.Relation(migration.TableName{Schema: e.Schema, Name: e.Tag})
		return name.Schema, name.Name
	}
	if of, ok := f.relations[f.owner(e)]; ok && e.Kind != "STATISTICS" {
		target := names.Relation(of.Name)
		return target.Schema, target.Name + strings.TrimPrefix(e.Tag, of.Name.Name)
	}
	if kind, name, found := strings.Cut(e.Tag, " "); found && attached(e.Kind) && slices.Contains(namedAsRelation, kind) {
		target := names.Relation(migration.TableName{Schema: e.Schema, Name: name})
		return target.Schema, kind + " " + target.Name
	}
	return names.Schema(e.Schema), e.Tag
}
