package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// state is a table of the target that was there before, with what could stand in the way of writing into it.
type state struct {
	Schema, Name, Kind string
	Rows               int64
	Select, Write      bool
	Hidden             bool     // row security holds for the role
	Triggers           []string // that fire for an ordinary session
	Always             []string // that fire under the replica role
	Rules              []string
	ForeignKeys        []string // statements that drop them
	Unique             []string // columns of each unique index, one per line; of an exclusion constraint none
}

func (s state) name() migration.TableName {
	return migration.TableName{Schema: s.Schema, Name: s.Name}
}

// readStates takes conparentid, which is there since 11, from the row as a whole: what a partition inherits cannot be
// dropped from it.
const readStates = `
select distinct n.nspname::text, c.relname::text, c.relkind::text, greatest(c.reltuples, 0)::bigint,
    has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'),
    has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'insert')
        and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'),
    row_security_active(c.oid),
    array(select t.tgname::text from pg_trigger t
          where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled in ('O', 'A') order by 1),
    array(select t.tgname::text from pg_trigger t
          where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled in ('R', 'A') order by 1),
    array(select r.rulename::text from pg_rewrite r where r.ev_class = c.oid order by 1),
    array(select format('alter table %s drop constraint %I; -- %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid))
          from pg_constraint k
          where k.contype = 'f' and (k.conrelid = c.oid or k.confrelid = c.oid)
            and coalesce(to_jsonb(k) ->> 'conparentid', '0') = '0' order by 1),
    array(select case when i.indisexclusion then '' else (
              select coalesce(string_agg(a.attname, chr(10)), '')
              from generate_series(0, coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts) - 1) p (n)
              join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[p.n]) end
          from pg_index i where i.indrelid = c.oid and (i.indisunique or i.indisexclusion))
from unnest($1::text[], $2::text[]) w (schema, name)
join pg_namespace n on n.nspname = w.schema
join pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind in ('r', 'p')
order by 1, 2`

func (l *look) readStates(ctx context.Context) ([]state, error) {
	existing, err := l.existing()
	if err != nil || len(existing) == 0 {
		return nil, err
	}
	schemas, relations := targets(existing)
	return rows[state](ctx, l.target, readStates, schemas, relations)
}

// unfit lists what keeps tables that are there from being written as the source says.
func (l *look) unfit(ctx context.Context, tables []mapping.Table) ([]finding, error) {
	states, err := l.facts.states()
	if err != nil || len(states) == 0 || !withRows(l.Spec) {
		return nil, err
	}
	replica, err := l.mayReplica(ctx)
	if err != nil {
		return nil, err
	}
	found := slices.Concat(l.forbidden(states), ruled(states), l.firing(states, replica))
	if withBoth(l.Spec) {
		found = append(found, oneSnapshot(tables, states)...)
	}
	return found, nil
}

// forbidden: the role may not write a table of another's, or sees only some of its rows.
func (l *look) forbidden(states []state) []finding {
	role := migration.Quote(l.target.role)
	var found []finding
	var closed, grants, hidden []string
	for _, s := range states {
		if !s.Select || !s.Write {
			closed = append(closed, s.name().String())
			usage := fmt.Sprintf("grant usage on schema %s to %s;", migration.Quote(s.Schema), role)
			if !slices.Contains(grants, usage) {
				grants = append(grants, usage)
			}
			grants = append(grants, fmt.Sprintf("grant select, insert, update, delete on %s to %s;", s.name().SQL(), role))
		}
		if s.Hidden {
			hidden = append(hidden, s.name().String())
		}
	}
	if len(closed) > 0 {
		found = append(found, failed(statements(grants), "role %s may not write %s of the target", l.target.role, list(closed)))
	}
	if len(hidden) > 0 {
		found = append(found, failed(fmt.Sprintf("alter role %s bypassrls;", role),
			"row-level security of the target holds for role %s in %s", l.target.role, list(hidden)))
	}
	return found
}

// ruled: a table with a rule for INSERT or UPDATE takes no ON CONFLICT, even when the rule is disabled, and other rules
// rewrite what is applied.
func ruled(states []state) []finding {
	var named, drops []string
	for _, s := range states {
		for _, rule := range s.Rules {
			named = append(named, fmt.Sprintf("%s on %s", rule, s.name()))
			drops = append(drops, fmt.Sprintf("drop rule %s on %s;", migration.Quote(rule), s.name().SQL()))
		}
	}
	if len(named) == 0 {
		return nil
	}
	return []finding{failed("-- on the target, until the migration is over:\n"+statements(drops),
		"rules on tables of the target rewrite what is written: %s", list(named))}
}

// firing: triggers and foreign keys would act on changes a second time, or refuse rows whose parents come later.
func (l *look) firing(states []state, replica bool) []finding {
	var named, fixes []string
	for _, s := range states {
		triggers := s.Triggers
		if replica {
			triggers = s.Always
		}
		for _, trigger := range triggers {
			named = append(named, fmt.Sprintf("trigger %s on %s", trigger, s.name()))
			fixes = append(fixes, fmt.Sprintf("alter table %s disable trigger %s;", s.name().SQL(), migration.Quote(trigger)))
		}
		if len(s.ForeignKeys) > 0 && !replica {
			named = append(named, "foreign keys of "+s.name().String())
		}
		for _, drop := range s.ForeignKeys {
			if !replica && !slices.Contains(fixes, drop) {
				fixes = append(fixes, drop)
			}
		}
	}
	switch {
	case len(named) == 0:
		return nil
	case replica:
		return []finding{alert("-- on the target, until the migration is over:\n"+statements(fixes),
			"these fire for what the migration writes too: %s", list(named))}
	}
	fix := "-- until the migration is over:\n" + statements(fixes)
	if l.target.version >= 150000 {
		fix = fmt.Sprintf("grant set on parameter session_replication_role to %s;\n%s", migration.Quote(l.target.role),
			"-- or until the migration is over:\n-- "+strings.Join(fixes, "\n-- "))
	}
	return []finding{failed(fix, "role %s may not set session_replication_role, and the target has %s", l.target.role, list(named))}
}

// oneSnapshot: rows that are copied under several snapshots may, for a while, hold one value twice where it is unique. An
// index that has the whole key tells such rows apart.
func oneSnapshot(tables []mapping.Table, states []state) []finding {
	keys := map[migration.TableName][]string{}
	for _, table := range tables {
		keys[table.Target] = table.TargetKey
	}
	var named []string
	for _, s := range states {
		strict := func(columns string) bool {
			has := strings.Split(columns, "\n")
			return slices.ContainsFunc(keys[s.name()], func(key string) bool { return !slices.Contains(has, key) })
		}
		if slices.ContainsFunc(s.Unique, strict) {
			named = append(named, s.name().String())
		}
	}
	if len(named) == 0 {
		return nil
	}
	return []finding{notice("", "these have other unique indexes than their key's on the target, so each is copied under one snapshot "+
		"instead of in parts: %s", list(named))}
}

// merged counts the tables of the source that become each one that several become.
func (c choice) merged() map[string]int {
	sources := map[string]int{}
	for _, table := range c.Tables {
		if table.Merged {
			sources[table.Target.String()]++
		}
	}
	return sources
}

// merges looks at tables of the source that become one: what tells their rows apart, and what finds them.
func merges(_ context.Context, l *look) (finding, error) {
	c, err := l.facts.met()
	if err != nil {
		return finding{}, err
	}
	chosen, err := l.facts.chosen()
	if err != nil {
		return finding{}, err
	}
	merged := c.merged()
	found := problems(slices.Concat(chosen.problems, slices.DeleteFunc(slices.Clone(c.problems), func(p mapping.Problem) bool {
		return p.Kind != mapping.KindMerge && merged[p.Object] < 2
	})), mapping.KindMerge, mapping.KindConflict)
	if all := together(found); all.state != "" {
		return all, nil
	}
	n := 0
	for _, sources := range merged {
		n += sources
	}
	if n == 0 {
		return passed("none"), nil
	}
	return passed("%s become %d", count(n, "table"), len(merged)), nil
}
