package precheck

import (
	"context"
	"sync"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/workflows/migration"
)

// facts are what several checks share. Each is read once, when the first of them asks; what could not be read then is
// not waited for again.
type facts struct {
	tables func() ([]catalog.Table, error)
	rights func() ([]right, error)
}

func (l *look) remember(ctx context.Context) {
	l.facts.tables = sync.OnceValues(func() ([]catalog.Table, error) { return catalog.Tables(ctx, l.source.conn) })
	l.facts.rights = sync.OnceValues(func() ([]right, error) { return l.readRights(ctx) })
}

func totalBytes(tables []catalog.Table) int64 {
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
       has_table_privilege(c.oid, 'update') or has_table_privilege(c.oid, 'delete') or has_table_privilege(c.oid, 'truncate'),
       pg_has_role(c.relowner, 'usage'), row_security_active(c.oid)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_roles o on o.oid = c.relowner
where c.oid = any ($1) order by 1, 2`

// readRights reads those of the same tables.
func (l *look) readRights(ctx context.Context) ([]right, error) {
	tables, err := l.facts.tables()
	if err != nil {
		return nil, err
	}
	oids := make([]uint32, len(tables))
	for i, table := range tables {
		oids[i] = table.OID
	}
	return rows[right](ctx, l.source, readRights, oids)
}
