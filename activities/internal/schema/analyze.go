package schema

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// readUnanalyzed finds what a table's own analysis, after its plain indexes, could not see: the whole of a tree, whose statistics
// no autovacuum makes, or one made in the middle of the copy; materialized views that were just filled; unique indexes over
// expressions, which come later. A tree with foreign tables would be read from other servers.
const readUnanalyzed = `
with recursive below (root, oid) as (
    select inhparent, inhrelid from pg_inherits union select b.root, h.inhrelid from below b join pg_inherits h on h.inhparent = b.oid),
filled (schema, name) as (
    select o.schema, o.name from dts_sync.object o
    where o.migration = $1 and o.kind in ('TABLE', 'MATERIALIZED VIEW') and o.state = 'done' and o.message is distinct from $2
    union select t.target_schema, t.target_name from dts_sync.tbl t where t.migration = $1)
select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
from filled
join pg_namespace n on n.nspname = filled.schema
join pg_class c on c.relnamespace = n.oid and c.relname = filled.name
where not c.relispartition and exists (select from below b where b.root = c.oid)
      and not exists (select from below b join pg_class f on f.oid = b.oid where b.root = c.oid and f.relkind = 'f')
   or c.relkind = 'm' and not exists (select from pg_stats s where s.schemaname = n.nspname and s.tablename = c.relname)
   or c.relkind <> 'p' and exists (
       select from pg_index i join pg_class x on x.oid = i.indexrelid
       where i.indrelid = c.oid and i.indexprs is not null
         and not exists (select from pg_stats s where s.schemaname = n.nspname and s.tablename = x.relname))
order by c.relpages desc, 1`

// analyze gives the planner what it would else miss when the target is opened. A second call does trees once more, the rest only
// where it is empty. What the target refuses is a note: the migration is complete without.
func (s *session) analyze(ctx context.Context, section string) error {
	tables, err := pg.Strings(ctx, s.Conn, readUnanalyzed, s.ID, ledger.WasThere)
	if err != nil {
		return err
	}
	for n, table := range tables {
		s.cfg.Report(beat("ANALYZE "+table, n, len(tables)))
		err := pgx.BeginFunc(ctx, s.Conn, func(tx pgx.Tx) error {
			if err := s.guard(ctx, tx, section); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "analyze "+table)
			return err
		})
		fault, isFault := migration.AsFault(s.cfg.Target.Fault("analyze", table, err))
		if isFault && (fault.Kind == migration.FaultOther || fault.Kind == migration.FaultPrivilege) {
			err = s.AddNote(ctx, "no statistics: "+table+": "+fault.Message)
		}
		if err != nil {
			return s.cfg.Target.Fault("analyze", table, err)
		}
	}
	return nil
}
