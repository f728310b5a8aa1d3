package schema

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Where the definition ignores conflicts (conflict: ignore), what the target has already stays as it is. A table of that
// name is done without our doing; what belongs to it is either there too, or left out with the reason. Other objects are
// found out by trying: the server refuses a second one of the name.

// presence is what a target has that could be in the way.
type presence struct {
	relations map[migration.TableName]bool
	parts     map[string]bool // constraints, indexes, triggers, policies and rules, by partName
}

func partName(table migration.TableName, name string) string { return table.SQL() + " " + name }

const readParts = `
select n.nspname::text, c.relname::text, p.name::text
from (select conrelid as relation, conname as name from pg_catalog.pg_constraint where conrelid <> 0
      union all
      select i.indrelid, x.relname from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
      union all
      select tgrelid, tgname from pg_catalog.pg_trigger where not tgisinternal
      union all
      select polrelid, polname from pg_catalog.pg_policy
      union all
      select ev_class, rulename from pg_catalog.pg_rewrite) p
join pg_catalog.pg_class c on c.oid = p.relation
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname not in ('pg_catalog', 'information_schema')`

func readPresence(ctx context.Context, conn *pgx.Conn) (presence, error) {
	p := presence{relations: map[migration.TableName]bool{}, parts: map[string]bool{}}
	rows, err := conn.Query(ctx, readRelationNames)
	if err != nil {
		return p, err
	}
	var table migration.TableName
	_, err = pgx.ForEachRow(rows, []any{&table.Schema, &table.Name}, func() error { p.relations[table] = true; return nil })
	if err != nil {
		return p, err
	}
	if rows, err = conn.Query(ctx, readParts); err != nil {
		return p, err
	}
	var name string
	_, err = pgx.ForEachRow(rows, []any{&table.Schema, &table.Name, &name}, func() error {
		p.parts[partName(table, name)] = true
		return nil
	})
	return p, err
}

// wasThere reports whether the target had a relation before the migration, and keeps it.
func (t target) wasThere(name migration.TableName) bool {
	return t.keeps && t.present.relations[name] && !t.made[name]
}

// keepExisting decides about an object whose name, or whose table's, the target has.
func (c *classifier) keepExisting(object *planned) {
	name := migration.TableName{Schema: object.Schema, Name: object.Name}
	table, isPart := c.tableOf(object)
	switch {
	case !c.keeps || object.State != ledger.ObjectPending:
	case isPart && c.wasThere(table):
		object.Undo = ""
		if c.present.parts[partName(table, object.part)] {
			object.State, object.Message = ledger.ObjectDone, ledger.WasThere
			return
		}
		object.State, object.Message = ledger.ObjectSkipped, notAltered(table)
	case slices.Contains(relationKinds, object.Kind) && c.wasThere(name), object.Kind == "SEQUENCE" && c.wasThere(name):
		object.State, object.Message, object.Undo = ledger.ObjectDone, ledger.WasThere, ""
	case attached(object.Kind) || object.Kind == "TABLE ATTACH" || object.Kind == "INDEX ATTACH":
		for _, id := range object.Depends {
			if needed := c.byID[id]; needed != nil && needed.Kind != "SCHEMA" && needed.Message == ledger.WasThere {
				object.State, object.Undo = ledger.ObjectSkipped, ""
				object.Message = notAltered(migration.TableName{Schema: needed.Schema, Name: needed.Name})
			}
		}
	}
}

const unalteredReason = " was there already and is not altered"

func notAltered(name migration.TableName) string { return name.String() + unalteredReason }

// tableOf is the name of the relation that an object is a part of; sequences are parts of the tables whose columns own them.
func (c *classifier) tableOf(object *planned) (migration.TableName, bool) {
	if owner, ok := c.sequenceOwners[object.entry.ID]; ok {
		return owner, true
	}
	of, ok := c.relations[c.owner(object.entry)]
	if !ok {
		return migration.TableName{}, false
	}
	return c.names.Relation(of.Name), true
}

// duplicates are the states by which a server says that it has an object of the name.
var duplicates = []string{"42710", "42723", "42P07", "42P06"}

// standsAlone are the kinds of which one that is there may stand for ours: they are no parts of a table.
var standsAlone = []string{
	"ACCESS METHOD", "AGGREGATE", "CAST", "COLLATION", "CONVERSION", "DOMAIN", "EVENT TRIGGER", "EXTENSION",
	"FOREIGN DATA WRAPPER", "FOREIGN TABLE", "FUNCTION", "MATERIALIZED VIEW", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY",
	"PROCEDURAL LANGUAGE", "PROCEDURE", "SCHEMA", "SERVER", "SHELL TYPE", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY",
	"TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "TRANSFORM", "TYPE", "USER MAPPING", "VIEW",
}

// mayKeep reports whether a failure says that the target has the object, and the definition keeps what is there.
func (s *session) mayKeep(o ledger.Object, own *objectError) bool {
	return s.cfg.keeps() && slices.Contains(duplicates, own.err.Code) && slices.Contains(standsAlone, o.Kind)
}

func (c Config) keeps() bool { return c.Spec.Conflict == migration.ConflictIgnore }

// keepThere records that the target has the object already.
func (r *run) keepThere(ctx context.Context, s *session, o ledger.Object) error {
	o.State, o.SQLState, o.Message, o.Hint = ledger.ObjectDone, "", ledger.WasThere, ""
	if err := s.record(ctx, o); err != nil {
		return s.fault(o, err)
	}
	r.mu.Lock()
	r.kept[o.DumpID] = true
	r.mu.Unlock()
	r.finish(o, ledger.ObjectDone)
	return s.AddNote(ctx, "kept as the target has it: "+o.Title())
}

// aboutKept reports whether an object would alter one that was there already: its comment, or rights to it.
func (r *run) aboutKept(o ledger.Object) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return attached(o.Kind) && slices.ContainsFunc(o.Depends, func(id int) bool { return r.kept[id] })
}
