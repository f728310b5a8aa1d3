create schema if not exists dts_sync;
-- Who owns a schema may replace what is in it, and these functions run with the rights of who makes them.
alter schema dts_sync owner to current_user;
grant usage on schema dts_sync to {role};

-- The tables: published ones with their partitions, and those that are migrated without being published.
create or replace function dts_sync.fence_tables_{short}(out relation oid, out name text, out open boolean) returns setof record
    language sql stable set search_path = pg_catalog, pg_temp as $pgdts$
with recursive below (oid) as (
    select to_regclass(n)::oid from unnest({published}) n where to_regclass(n) is not null
    union
    select i.inhrelid from below b join pg_class c on c.oid = b.oid and c.relkind = 'p' join pg_inherits i on i.inhparent = b.oid
), every (oid) as (
    select oid from below
    union
    select to_regclass(n)::oid from unnest({others}) n where to_regclass(n) is not null
), above (oid, parent) as (
    select e.oid, i.inhparent from every e join pg_inherits i on i.inhrelid = e.oid
    union
    select a.oid, i.inhparent from above a join pg_inherits i on i.inhrelid = a.parent
)
select c.oid, format('%I.%I', n.nspname, c.relname),
       c.relkind = 'r' and exists (select from above a where a.oid = c.oid and a.parent not in (select oid from every))
from every e join pg_class c on c.oid = e.oid join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')
$pgdts$;

-- Locks them against writers for the caller's transaction, those of first at first.
create or replace function dts_sync.fence_lock_{short}(first oid[]) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $pgdts$
declare
    names text;
begin
    select string_agg('only ' || t.name, ', ' order by array_position(first, t.relation), t.relation)
    into names from dts_sync.fence_tables_{short}() t;
    if names is not null then
        execute 'lock table ' || names || ' in share row exclusive mode';
    end if;
end
$pgdts$;

-- Makes triggers on them that refuse writes, and say whereto the tables have moved.
create or replace function dts_sync.fence_block_{short}(place text) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $pgdts$
declare
    t record;
begin
    perform pg_advisory_xact_lock(hashtext('pgdts_fence'));
    if to_regnamespace('pgdts_fence') is null then
        create schema pgdts_fence;
    elsif not exists (select from pg_namespace n join pg_roles r on r.oid = n.nspowner
                      where n.nspname = 'pgdts_fence' and (r.rolsuper or r.rolname = current_user)) then
        raise exception 'schema pgdts_fence belongs to another role, who could change what the triggers do'
            using errcode = '42501', hint = 'alter schema pgdts_fence owner to ' || current_user;
    end if;
    execute format('create or replace function pgdts_fence.moved_{short}() returns trigger language plpgsql as %L', format(
        'begin raise exception %L, tg_table_schema, tg_table_name using errcode = %L, hint = %L; end',
        'table %.% has moved to ' || replace(place, '%', '%%'), '25006',
        'Write to the new database. pgdts unfence lets writes back here.'));
    for t in select * from dts_sync.fence_tables_{short}() loop
        if not exists (select from pg_trigger g where g.tgrelid = t.relation and g.tgname = 'zz_pgdts_moved_{short}') then
            execute format('create trigger zz_pgdts_moved_{short} before insert or update or delete or truncate on %s '
                'for each statement execute procedure pgdts_fence.moved_{short}()', t.name);
            execute format('alter table only %s enable always trigger zz_pgdts_moved_{short}', t.name);
        end if;
        if t.open and not exists (select from pg_trigger g where g.tgrelid = t.relation and g.tgname = 'zz_pgdts_moved_{short}_row') then
            execute format('create trigger zz_pgdts_moved_{short}_row before insert or update or delete on %s '
                'for each row execute procedure pgdts_fence.moved_{short}()', t.name);
            execute format('alter table only %s enable always trigger zz_pgdts_moved_{short}_row', t.name);
        end if;
    end loop;
end
$pgdts$;

-- Makes the triggers refuse nothing, at once and without a lock on any table; removes what is left when there is none.
create or replace function dts_sync.fence_disarm_{short}() returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $pgdts$
begin
    if to_regprocedure('pgdts_fence.moved_{short}()') is null then
        return;
    end if;
    if exists (select from pg_trigger where tgfoid = to_regprocedure('pgdts_fence.moved_{short}()')) then
        create or replace function pgdts_fence.moved_{short}() returns trigger language plpgsql as '
begin
    if tg_level = ''ROW'' then
        if tg_op = ''DELETE'' then
            return old;
        end if;
        return new;
    end if;
    return null;
end ';
        return;
    end if;
    drop function pgdts_fence.moved_{short}();
    begin
        drop schema pgdts_fence restrict;
    exception when dependent_objects_still_exist then
        null;
    end;
end
$pgdts$;

-- Removes the triggers from one table.
create or replace function dts_sync.fence_lift_{short}(relation oid) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $pgdts$
declare
    g record;
begin
    for g in select t.tgname, format('%I.%I', n.nspname, c.relname) as name
             from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
             where t.tgrelid = relation and t.tgfoid = to_regprocedure('pgdts_fence.moved_{short}()') loop
        execute format('drop trigger %I on %s', g.tgname, g.name);
    end loop;
end
$pgdts$;

revoke all on function {functions} from public;
grant execute on function {functions} to {role};
