package cutover

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Unfence lets writes back onto a source that cutovers closed, whichever migrations they were, and returns what it
// removed, a line each. A second call finds nothing. Writes are back as soon as it begins to remove triggers: what keeps
// a trigger from being dropped (somebody reads the table) only keeps a trigger that does nothing.
func Unfence(ctx context.Context, source *pg.Server) ([]string, error) {
	conn, err := source.Connect(ctx, "pgdts/unfence")
	if err != nil {
		return nil, err
	}
	defer pg.Close(conn)
	return lift(ctx, source, conn, "")
}

// fenceFunction is one migration's record on the source.
type fenceFunction struct {
	name    string
	comment string
	// short is the migration's when its administrator's functions have to be asked; "" where the role owns the function.
	short string
}

const readFunctions = `
select p.proname, coalesce(obj_description(p.oid, 'pg_proc'), ''),
       case when pg_has_role(p.proowner, 'usage') then '' else substr(p.proname, 7) end
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgdts_fence' and left(p.proname, 6) = 'moved_' and ($1 = '' or p.proname = $1)
order by 1`

// lift removes what one migration set on the source to refuse writes; of all migrations when id is "".
func lift(ctx context.Context, source *pg.Server, conn *pgx.Conn, id migration.ID) ([]string, error) {
	only := ""
	if id != "" {
		only = movedFunction(id)
	}
	rows, err := conn.Query(ctx, readFunctions, only)
	if err != nil {
		return nil, source.Fault("look for a fence on", source.Database(), err)
	}
	functions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (fenceFunction, error) {
		var f fenceFunction
		return f, row.Scan(&f.name, &f.comment, &f.short)
	})
	if err != nil {
		return nil, source.Fault("look for a fence on", source.Database(), err)
	}
	var removed []string
	for _, f := range functions {
		lines, err := liftOne(ctx, source, conn, f)
		removed = append(removed, lines...)
		if err != nil {
			return removed, source.Fault("lift the fence on", source.Database(), err)
		}
	}
	if slices.ContainsFunc(functions, func(f fenceFunction) bool { return f.short == "" }) {
		_, err = conn.Exec(ctx, dropFenceSchema, pgx.QueryExecModeSimpleProtocol)
	}
	return removed, source.Fault("drop schema", fenceSchema, err)
}

// disarm makes the function do nothing, at once and without waiting for a lock on any table. A row trigger that returned
// null would lose the row.
const disarm = `
create or replace function pgdts_fence.%s() returns trigger language plpgsql as '
begin
    if tg_level = ''ROW'' then
        if tg_op = ''DELETE'' then
            return old;
        end if;
        return new;
    end if;
    return null;
end '`

const dropFenceSchema = `
do $$
begin
    drop schema if exists pgdts_fence restrict;
exception when dependent_objects_still_exist or insufficient_privilege then
    null;
end $$`

// disarm makes the triggers do nothing.
func (f fenceFunction) disarm() string {
	if f.short != "" {
		return fmt.Sprintf("select dts_sync.fence_disarm_%s()", f.short)
	}
	return fmt.Sprintf(disarm, migration.Quote(f.name))
}

// drop removes the function when no trigger uses it.
func (f fenceFunction) drop() string {
	if f.short != "" {
		return f.disarm()
	}
	return "drop function " + fenceSchema + "." + migration.Quote(f.name) + "()"
}

// dropTrigger removes one trigger; an administrator's function removes all of them from the table.
func (f fenceFunction) dropTrigger(trigger string, table relation) string {
	if f.short != "" {
		return fmt.Sprintf("select dts_sync.fence_lift_%s(%d)", f.short, table.oid)
	}
	return "drop trigger if exists " + migration.Quote(trigger) + " on " + table.name.SQL()
}

func liftOne(ctx context.Context, source *pg.Server, conn *pgx.Conn, f fenceFunction) ([]string, error) {
	_, err := conn.Exec(ctx, f.disarm(), pgx.QueryExecModeSimpleProtocol)
	if state := pg.SQLState(err); f.short != "" && (state == "42501" || state == "42883" || state == "3F000") {
		return nil, migration.NewFault(migration.FaultPrivilege, "lift the fence on", source.Database(), err,
			"another role closed the tables: let it, or an owner of the tables or a superuser, run pgdts unfence")
	}
	if err != nil {
		return nil, err
	}
	removed, err := resetReadOnly(ctx, source, conn, f)
	if err != nil {
		return removed, err
	}
	dropped, kept, err := dropTriggers(ctx, conn, f)
	if dropped > 0 {
		removed = append(removed, fmt.Sprintf("triggers of function %s.%s on %d tables", fenceSchema, f.name, dropped))
	}
	if err != nil {
		return removed, err
	}
	if len(kept) > 0 {
		return append(removed, fmt.Sprintf("what the triggers on %s do: they are in use and could not be dropped, but refuse nothing any more",
			some(kept))), nil
	}
	if _, err := conn.Exec(ctx, f.drop()); err != nil && pg.SQLState(err) != "42883" {
		return removed, err
	}
	return append(removed, "function "+fenceSchema+"."+f.name), nil
}

// endReadOnly ends sessions that began while the default was on: they would stay read-only for as long as a pool keeps them.
const endReadOnly = `
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
  and left(application_name, 6) <> 'pgdts/' and backend_start >= $1::timestamptz`

func resetReadOnly(ctx context.Context, source *pg.Server, conn *pgx.Conn, f fenceFunction) ([]string, error) {
	since, found := strings.CutPrefix(f.comment, commentReadOnly)
	if !found {
		return nil, nil
	}
	if _, err := conn.Exec(ctx, "alter database "+migration.Quote(source.Database())+" reset default_transaction_read_only"); err != nil {
		return nil, err
	}
	removed := []string{"default_transaction_read_only of database " + source.Database()}
	if _, err := conn.Exec(ctx, endReadOnly, since); err != nil && pg.SQLState(err) != "42501" {
		return removed, err
	}
	return removed, nil
}

const readTriggers = `
select t.tgname, c.oid, c.relname, n.nspname
from pg_trigger t
join pg_proc p on p.oid = t.tgfoid join pg_namespace f on f.oid = p.pronamespace
join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
where f.nspname = 'pgdts_fence' and p.proname = $1
order by c.oid`

const dropTries = 5

// dropTriggers tries each table a few times for a short while: dropping a trigger waits for readers, and whoever comes
// after us waits behind us.
func dropTriggers(ctx context.Context, conn *pgx.Conn, f fenceFunction) (dropped int, kept []string, err error) {
	for try := 0; ; try++ {
		rows, err := conn.Query(ctx, readTriggers, f.name)
		if err != nil {
			return dropped, nil, err
		}
		var statements, tables []string
		var trigger string
		var table relation
		_, err = pgx.ForEachRow(rows, []any{&trigger, &table.oid, &table.name.Name, &table.name.Schema}, func() error {
			statements = append(statements, f.dropTrigger(trigger, table))
			tables = append(tables, table.name.String())
			return nil
		})
		if err != nil || len(statements) == 0 {
			return dropped, nil, err
		}
		if try == dropTries {
			return dropped, tables, nil
		}
		if try > 0 && !pause(ctx, 100*time.Millisecond) {
			return dropped, tables, ctx.Err()
		}
		for _, statement := range statements {
			_, err := conn.Exec(ctx, "begin; set local lock_timeout = '200ms'; "+statement+"; commit", pgx.QueryExecModeSimpleProtocol)
			switch pg.SQLState(err) {
			case "":
				if err != nil {
					return dropped, nil, err
				}
				dropped++
			case "55P03", "40P01":
				if _, err := conn.Exec(ctx, "rollback"); err != nil {
					return dropped, nil, err
				}
			default:
				_, _ = conn.Exec(ctx, "rollback")
				return dropped, nil, err
			}
		}
	}
}
