package main

import (
	"context"

	"github.com/pgdts/pgdts/tests/bench/arena"
)

var settings = map[string]string{
	"shared_buffers": "1GB", "max_wal_size": "32GB", "checkpoint_timeout": "1h", "maintenance_work_mem": "256MB",
	"autovacuum": "off", "max_parallel_maintenance_workers": "2", "wal_compression": "off",
}

// settle leaves nothing of the filling to be done while somebody is measured.
func settle(ctx context.Context, s arena.Server, database string) error {
	if err := s.Exec(ctx, database, "vacuum (analyze)"); err != nil {
		return err
	}
	return s.Exec(ctx, "postgres", "checkpoint")
}

// readObjects lists what a whole clone must have besides rows.
const readObjects = `
select coalesce(string_agg(o, e'\n' order by o), '') from (
    select pg_get_indexdef(indexrelid) as o from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname not in ('pg_catalog', 'pg_toast', 'information_schema', 'dts_sync') and i.indisvalid
    union all
    select conname || ' ' || pg_get_constraintdef(k.oid) || ' ' || convalidated from pg_constraint k join pg_namespace n on n.oid = k.connamespace
    where n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync')
    union all
    select n.nspname || '.' || relname || ' has statistics' from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where relkind = 'r' and reltuples > 0 and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync')) x`

func objects(ctx context.Context, s arena.Server, database string) (string, error) {
	return s.Text(ctx, database, readObjects)
}
