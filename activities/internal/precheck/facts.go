package precheck

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// facts are what several checks share. Each is read once, when the first of them asks; what could not be read then is
// not waited for again.
type facts struct {
	chosen func() (choice, error) // asks the source alone
	met    func() (choice, error) // and the target too
	needed func() (needed, error)
	rights func() ([]right, error)
	states func() ([]state, error)

	sequences func() ([]sequence, error)
	estimate  func() (estimate, error)
}

// choice is what the definition means, and what is wrong about it.
type choice struct {
	mapping.Selection
	problems []mapping.Problem
}

func (l *look) remember(ctx context.Context) {
	l.facts.chosen = sync.OnceValues(func() (choice, error) {
		selection, problems, err := mapping.Read(ctx, l.source.conn, l.Spec)
		return choice{selection, problems}, err
	})
	l.facts.met = sync.OnceValues(func() (choice, error) { return l.meet(ctx) })
	l.facts.needed = sync.OnceValues(func() (needed, error) { return l.readNeeded(ctx) })
	l.facts.states = sync.OnceValues(func() ([]state, error) { return l.readStates(ctx) })
	l.facts.sequences = sync.OnceValues(func() ([]sequence, error) { return l.readSequences(ctx) })
	l.facts.estimate = sync.OnceValues(func() (estimate, error) { return l.readEstimate(ctx) })
	l.facts.rights = sync.OnceValues(func() ([]right, error) { return l.readRights(ctx) })
}

// meet is the choice once more, with the problems that only the target shows.
func (l *look) meet(ctx context.Context) (choice, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return c, err
	}
	made, err := l.made(ctx)
	if err != nil {
		return c, err
	}
	c.Tables = slices.Clone(c.Tables)
	c.problems, err = c.Meet(ctx, l.target.conn, l.Spec, made)
	return c, err
}

// tables are the selected ones.
func (l *look) tables() ([]mapping.Table, error) {
	c, err := l.facts.chosen()
	return c.Tables, err
}

// existing are the selected tables that somebody else has made on the target.
func (l *look) existing() ([]mapping.Table, error) {
	c, err := l.facts.met()
	return slices.DeleteFunc(slices.Clone(c.Tables), func(t mapping.Table) bool { return !t.Existing }), err
}

func oids(tables []mapping.Table) []uint32 {
	oids := make([]uint32, len(tables))
	for i, table := range tables {
		oids[i] = table.OID
	}
	return oids
}

// targets splits the tables' names on the target, for unnest.
func targets(tables []mapping.Table) (schemas, relations []string) {
	schemas, relations = make([]string, len(tables)), make([]string, len(tables))
	for i, table := range tables {
		schemas[i], relations[i] = table.Target.Schema, table.Target.Name
	}
	return schemas, relations
}

// means reports whether a relation that holds no rows of its own, such as a view, is migrated.
func (c choice) means(relation migration.TableName) bool {
	return c.WholeSchema(relation.Schema) && !c.Excluded(relation)
}

func totalBytes(tables []mapping.Table) int64 {
	var sum int64
	for _, table := range tables {
		sum += table.Bytes
	}
	return sum
}

// right is what the role may do with a table of the source.
type right struct {
	Schema, Name string
	Owner        string
	OwnerSuper   bool
	Usage        bool // of the schema
	Select       bool
	Lock         bool // SHARE ROW EXCLUSIVE
	Owned        bool // by the role or one that it is a member of
	Hidden       bool // row security would leave out rows
}

func (r right) table() migration.TableName {
	return migration.TableName{Schema: r.Schema, Name: r.Name}
}

// ofUsers chooses what belongs to users: c is pg_class or another catalog, n its schema.
const ofUsers = `
n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync') and n.nspname !~ '^pg_(toast|temp_|toast_temp_)'`

// notOfExtension leaves out what an extension brings by itself.
const notOfExtension = `
not exists (select from pg_depend e where e.classid = c.tableoid and e.objid = c.oid and e.deptype = 'e')`

const readRights = `
select n.nspname::text, c.relname::text, o.rolname::text, o.rolsuper,
       has_schema_privilege(n.oid, 'usage'), has_table_privilege(c.oid, 'select'),
       has_table_privilege(c.oid, 'update') or has_table_privilege(c.oid, 'delete') or has_table_privilege(c.oid, 'truncate')%s,
       pg_has_role(c.relowner, 'usage'), row_security_active(c.oid)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_roles o on o.oid = c.relowner
where c.oid = any ($1) order by 1, 2`

// readRights reads those of the same tables.
func (l *look) readRights(ctx context.Context) ([]right, error) {
	tables, err := l.tables()
	if err != nil {
		return nil, err
	}
	maintain := "" // since 17 it is enough to lock a table
	if l.source.version >= 170000 {
		maintain = " or has_table_privilege(c.oid, 'maintain')"
	}
	return rows[right](ctx, l.source, fmt.Sprintf(readRights, maintain), oids(tables))
}
