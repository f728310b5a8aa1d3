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

// fenceSchema holds what refuses writes on the source. It is no part of dts_sync, because it must stay when all other
// traces of a migration are removed.
const fenceSchema = "pgdts_fence"

// triggersAtOnce bounds the length of a statement.
const triggersAtOnce = 200

func movedFunction(id migration.ID) string { return "moved_" + id.Short() }

// movedTrigger sorts behind other triggers' names for readers only; its order among them does not matter, since it raises.
func movedTrigger(id migration.ID) string { return "zz_pgdts_moved_" + id.Short() }

// movedRowTrigger is for rows that come by a statement about another table.
func movedRowTrigger(id migration.ID) string { return movedTrigger(id) + "_row" }

// createFunction is one message for all tables; the raising statement has the state of a read-only transaction, which
// applications and pools take for a server that is not the primary any more.
const createFunction = `
select pg_advisory_xact_lock(hashtext('pgdts_fence'));
do $$ begin
    if to_regnamespace('pgdts_fence') is null then -- "if not exists" takes the right to create even where it exists
        create schema pgdts_fence;
    end if;
end $$;
create or replace function pgdts_fence.%[1]s() returns trigger language plpgsql as %[2]s;
comment on function pgdts_fence.%[1]s() is %[3]s`

const raiseBody = `
begin
    raise exception 'table %%.%% has moved to %s', tg_table_schema, tg_table_name
        using errcode = '25006', hint = 'Write to the new database. pgdts unfence lets writes back here.';
end `

// commentReadOnly in a function's comment tells that the database's default was changed too, and when.
const commentReadOnly = "default_transaction_read_only since "

// function makes the record of the fence, which raises when a trigger calls it.
func function(id migration.ID, target *pg.Server, comment string) string {
	where := strings.NewReplacer(`'`, `''`, `%`, `%%`).Replace(target.Address())
	if _, host, found := strings.Cut(where, "@"); found {
		where = host
	}
	return fmt.Sprintf(createFunction, movedFunction(id), migration.Literal(fmt.Sprintf(raiseBody, where)), migration.Literal(comment))
}

// refuse makes the triggers in the fence's transaction and commits it, so that a writer that waits for a lock finds the
// trigger when it gets it. Where the role may not make triggers it closes the database by its default instead.
func (a *attempt) refuse(ctx context.Context) error {
	if a.fence.prepared {
		if err := a.blockPrepared(ctx); err != nil {
			return err
		}
		return a.Source.Fault("commit triggers that refuse writes on", a.Source.Database(), a.fence.exec(ctx, "commit"))
	}
	err := a.makeTriggers(ctx)
	if pg.SQLState(err) == "42501" {
		if err := a.fence.exec(ctx, "rollback to savepoint fence"); err != nil {
			return a.Source.Fault("roll back", "triggers", err)
		}
		err = a.closeByDefault(ctx)
	}
	if err != nil {
		return a.Source.Fault("make triggers that refuse writes on", a.Source.Database(), err)
	}
	return a.Source.Fault("commit triggers that refuse writes on", a.Source.Database(), a.fence.exec(ctx, "commit"))
}

// readMoved finds triggers that stayed when an earlier fence was lifted while somebody read the table.
const readMoved = `
select coalesce(string_agg(t.tgrelid::text || ' ' || t.tgname, ','), '')
from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgdts_fence' and p.proname = $1`

func (a *attempt) makeTriggers(ctx context.Context) error {
	var list string
	if err := a.source.QueryRow(ctx, readMoved, movedFunction(a.Spec.ID)).Scan(&list); err != nil {
		return err
	}
	there := strings.Split(list, ",")
	if err := a.fence.exec(ctx, "savepoint fence;"+function(a.Spec.ID, a.Target, "")); err != nil {
		return err
	}
	for tables := range slices.Chunk(a.fence.tables, triggersAtOnce) {
		var sql strings.Builder
		for _, table := range tables {
			for name, statement := range a.triggers(table) {
				if !slices.Contains(there, fmt.Sprint(table.oid, " ", name)) {
					sql.WriteString(statement)
				}
			}
		}
		if err := a.fence.exec(ctx, sql.String()); err != nil {
			return err
		}
	}
	return nil
}

// triggers fire for the replica role too. They stand on partitioned tables and on partitions, because a statement fires
// only the triggers of the table that it names; where that one is not migrated, each row has to fire one.
func (a *attempt) triggers(table relation) map[string]string {
	create := func(name, events, each string) string {
		return fmt.Sprintf(`create trigger %[1]s before %[2]s on %[3]s for each %[4]s execute procedure %[5]s.%[6]s();
			alter table only %[3]s enable always trigger %[1]s;`,
			migration.Quote(name), events, table.name.SQL(), each, fenceSchema, movedFunction(a.Spec.ID))
	}
	name := movedTrigger(a.Spec.ID)
	made := map[string]string{name: create(name, "insert or update or delete or truncate", "statement")}
	if table.open {
		name = movedRowTrigger(a.Spec.ID)
		made[name] = create(name, "insert or update or delete", "row")
	}
	return made
}

// closeByDefault is for a role that does not own the tables, while the fence holds the locks. A database with tables that
// are not migrated stays open: they are somebody else's.
func (a *attempt) closeByDefault(ctx context.Context) error {
	if !a.scope.selection.Everything {
		a.note("the source was not closed: the role does not own the tables, and the database has others that are not migrated; " +
			"whoever still writes there writes to the old database")
		return a.endWaiters(ctx)
	}
	err := a.setReadOnly(ctx)
	switch {
	case pg.SQLState(err) == "42501":
		a.note("the source could not be closed: the role owns neither the tables nor the database; " +
			"whoever still writes there writes to the old database")
	case err != nil:
		return err
	default:
		err = a.endOthers(ctx)
		if err != nil && pg.SQLState(err) != "42501" {
			return err
		}
		note := "triggers that refuse writes could not be made on the source (the role does not own the tables): " +
			"the database was made read-only by default, which a session may set off"
		if err != nil {
			note += "; sessions that the role may not end stay as they are until they reconnect"
		}
		a.note("%s", note)
	}
	if err == nil {
		return nil
	}
	return a.endWaiters(ctx)
}

// endWaiting ends who waits for the fence's locks and would write as soon as they go.
const endWaiting = `
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and $1::int = any (pg_blocking_pids(pid))`

func (a *attempt) endWaiters(ctx context.Context) error {
	_, err := a.source.Exec(ctx, endWaiting, a.fence.pid())
	if pg.SQLState(err) == "42501" {
		return nil
	}
	return err
}

// refuseByDefault is the fence of those who may not lock: new transactions are read-only unless they say otherwise,
// and sessions that began before are ended.
func (a *attempt) refuseByDefault(ctx context.Context) error {
	err := a.setReadOnly(ctx)
	if err == nil {
		err = a.endOthers(ctx)
	}
	if pg.SQLState(err) == "42501" {
		return migration.NewFault(migration.FaultNotReady, "close", a.Source.Database(), err,
			"the role must own the database and be a member of pg_signal_backend, and sessions of superusers must have ended; or use cutover.fence: lock")
	}
	return a.Source.Fault("close", a.Source.Database(), err)
}

// setReadOnly changes what new sessions begin with. It records first that it will be done.
func (a *attempt) setReadOnly(ctx context.Context) error {
	if err := a.record(ctx); err != nil {
		return err
	}
	var since string
	if err := a.source.QueryRow(ctx, "select clock_timestamp()::text").Scan(&since); err != nil {
		return err
	}
	_, err := a.source.Exec(ctx, function(a.Spec.ID, a.Target, commentReadOnly+since), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return err
	}
	_, err = a.source.Exec(ctx, "alter database "+migration.Quote(a.Source.Database())+" set default_transaction_read_only = on")
	return err
}

// endOthers ends sessions of others that began before the default was set, and those that write in spite of it.
// Walsenders of other consumers write nothing and stay. What this role may not see it tries to end, and is refused.
const endOthers = `
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and coalesce(backend_type, 'client backend') = 'client backend'
  and left(application_name, length($1)) <> $1
  and (coalesce(backend_start <= $2::timestamptz, true) or backend_xid is not null)`

// endOthers asks again until they are gone.
func (a *attempt) endOthers(ctx context.Context) error {
	var set string
	if err := a.source.QueryRow(ctx, "select clock_timestamp()::text").Scan(&set); err != nil {
		return err
	}
	for {
		var alive int
		if err := a.source.QueryRow(ctx, endOthers, "pgdts/"+a.Spec.ID.Short()+"/", set).Scan(&alive); err != nil {
			return err
		}
		if alive == 0 {
			return nil
		}
		a.say(fmt.Sprintf("ending %d sessions", alive), 0, 0)
		if !pause(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// record writes into the ledger that something on the source may refuse writes, before it does.
func (a *attempt) record(ctx context.Context) error {
	if a.fence.made {
		return nil
	}
	if err := a.lane.RecordFence(ctx, a.target); err != nil {
		return a.Target.Fault("record the fence of", string(a.Spec.ID), err)
	}
	a.fence.made = true
	return nil
}
