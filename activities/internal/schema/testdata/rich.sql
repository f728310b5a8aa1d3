-- One of every kind of object that pg_dump knows and that a plain installation can make.
create extension hstore;
create extension btree_gist schema public;
create schema "Mixed Case";
create schema "select";
create schema rich;

-- types
create type rich.mood as enum ('sad', 'it''s ok', 'happy');
create type rich.pair as (a int, b rich.mood);
create domain rich.positive as int constraint must_be_positive check (value > 0);
create domain rich.checked as rich.positive not null;
create type rich.floatrange as range (subtype = float8, subtype_diff = float8mi);
create collation rich.german (provider = icu, locale = 'de-u-co-phonebk');
create collation rich.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create type rich.shell;

-- code
create function rich.twice(int) returns int language sql immutable return $1 * 2;
create function rich.plus(rich.pair, rich.pair) returns rich.pair language sql immutable as
    'select row(($1).a + ($2).a, ($1).b)::rich.pair';
create procedure rich.nothing(inout x int default 3) language plpgsql as $$ begin x := x + 1; end $$;
create operator rich.|+| (leftarg = rich.pair, rightarg = rich.pair, function = rich.plus, commutator = operator(rich.|+|));
create aggregate rich.total(rich.pair) (sfunc = rich.plus, stype = rich.pair, initcond = '(0,sad)');
create function rich.by_size(int, int) returns int language sql immutable as 'select sign(abs($1) - abs($2))::int';
create function rich.abs_lt(int, int) returns boolean language sql immutable as 'select abs($1) < abs($2)';
create operator rich.<| (leftarg = int, rightarg = int, function = rich.abs_lt);
create operator family rich.by_abs using btree;
create operator class rich.int_abs for type int using hash as operator 1 =, function 1 hashint4(int);
create function rich.to_mood(int) returns rich.mood language sql immutable as $$ select 'happy'::rich.mood $$;
create cast (int as rich.mood) with function rich.to_mood(int);
create text search configuration rich.plain (copy = simple);
create text search dictionary rich.stop (template = pg_catalog.simple, stopwords = english);
alter text search configuration rich.plain alter mapping for asciiword with rich.stop;

-- tables
create table rich.parent (id int primary key, note text default 'x', constraint note_short check (length(note) < 100));
create table rich.child (extra text collate rich.german) inherits (rich.parent);
create table rich.types (
    id int generated always as identity (start with 10 increment by 5 cycle minvalue 1 maxvalue 1000) primary key,
    m rich.mood default 'happy', p rich.pair, d rich.checked default 1, f rich.floatrange, h hstore,
    twice int generated always as (rich.twice(id)) stored,
    t text collate rich.nocase, v varchar(10), arr int[][], ts tsvector, inet inet, bits bit varying(8)
);
alter table rich.types alter column t set statistics 500, alter column t set storage external;
alter table rich.types alter column v set (n_distinct = 0.5);
create index types_ts on rich.types using gin (ts);
create index types_expression on rich.types (lower(t), ((p).a));
create statistics rich.types_stats (ndistinct, dependencies) on m, v from rich.types;
create table rich.booking (room int, during tstzrange, id bigserial,
    constraint no_overlap exclude using gist (room with =, during with &&) where (room > 0));
create table rich.keyed_by_index (a int not null, b int not null, c text);
create unique index keyed_by_index_ab on rich.keyed_by_index (a, b);
alter table rich.keyed_by_index replica identity using index keyed_by_index_ab;
create unique index keyed_partial on rich.keyed_by_index (c) where a > 0;
create unique index keyed_covering on rich.keyed_by_index (b desc nulls last) include (c);
alter table rich.keyed_by_index cluster on keyed_covering;
create table rich.full_identity (a int, b text);
alter table rich.full_identity replica identity full;
create table rich.deferred (id int primary key deferrable initially deferred, code text unique deferrable);
alter table rich.deferred add constraint later check (id <> 13) not valid;

-- a default that reads the table itself
create table rich.counted (id int primary key, n bigint);
create function rich.count_counted() returns bigint language plpgsql as $$ begin return (select count(*) from rich.counted); end $$;
alter table rich.counted alter column n set default rich.count_counted();
create function rich.fits(rich.counted) returns boolean language sql as 'select $1.id > 0';
alter table rich.counted add constraint row_fits check (rich.fits(counted.*));

-- three levels of partitions with keys and indexes on the root
create table rich.measure (region text, at date, sensor int, v float8, primary key (region, at, sensor)) partition by list (region);
create table rich.measure_eu partition of rich.measure for values in ('de', 'fr') partition by range (at);
create table rich.measure_eu_old partition of rich.measure_eu for values from (minvalue) to ('2024-01-01') partition by hash (sensor);
create table rich.measure_eu_old_0 partition of rich.measure_eu_old for values with (modulus 2, remainder 0);
create table rich.measure_eu_old_1 partition of rich.measure_eu_old for values with (modulus 2, remainder 1);
create table rich.measure_eu_new partition of rich.measure_eu for values from ('2024-01-01') to (maxvalue);
create table rich.measure_other partition of rich.measure default;
create index measure_v on rich.measure (v);
create unique index measure_unique on rich.measure (region, at, sensor, v);
create index measure_leaf_only on rich.measure_eu_new (sensor) where v > 0;
create table rich.alarm (id int primary key, region text, at date, sensor int,
    foreign key (region, at, sensor) references rich.measure);
create table rich.alarm_part (id int, k int references rich.parent, primary key (id)) partition by range (id);
create table rich.alarm_part_1 partition of rich.alarm_part for values from (0) to (100);

-- foreign keys in a circle, to a unique constraint that is no key, and not valid
create table rich.egg (id int primary key, chicken int, name text unique);
create table rich.chicken (id int primary key, egg int references rich.egg, egg_name text references rich.egg (name) on update cascade);
alter table rich.egg add foreign key (chicken) references rich.chicken deferrable initially deferred;
alter table rich.chicken add constraint not_checked foreign key (id) references rich.parent not valid;

-- names
create table "Mixed Case"."Weird ""name""" ("select" int primary key, "from space" text, "ünï" text unique);
create index "Weird; index -- name" on "Mixed Case"."Weird ""name""" ("from space");
create table "select"."table" ("user" int primary key references "Mixed Case"."Weird ""name""");
create table rich.a234567890123456789012345678901234567890123456789012345678901xy (
    b234567890123456789012345678901234567890123456789012345678901yz int primary key, c int unique);

-- views
create view rich.v1 as select id, note from rich.parent where id > 0 with check option;
create view rich.v2 with (security_barrier) as select v1.id, c.extra from rich.v1 join rich.child c using (id);
create view rich.by_key as select p.id, p.note, count(*) from rich.parent p group by p.id;
create view rich.over_by_key as select id from rich.by_key;
create materialized view rich.m1 as select id, count(*) as n from rich.parent group by id;
create view rich.over_m1 as select n from rich.m1;
create materialized view rich.a_m2 as select sum(n) as total from rich.over_m1;
create materialized view rich.m_key as select p.id, p.note from rich.parent p group by p.id;
create materialized view rich.unfilled as select 1 as one with no data;
create unique index m1_id on rich.m1 (id);
create index a_m2_total on rich.a_m2 (total);
create function rich.uses_view(rich.v1) returns int language sql as 'select $1.id';

-- rules, triggers, policies
create rule v1_insert as on insert to rich.v2 do instead insert into rich.parent (id) values (new.id);
create rule keep_counted as on delete to rich.counted do instead nothing;
create rule log_full as on insert to rich.full_identity do also notify full_identity;
create function rich.stamp() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger stamp before insert or update of note on rich.parent for each row when (new.note is not null) execute function rich.stamp();
create trigger stamp_always after insert on rich.types for each row execute function rich.stamp();
alter table rich.types enable always trigger stamp_always;
create trigger stamp_off before update on rich.types for each row execute function rich.stamp();
alter table rich.types disable trigger stamp_off;
create trigger stamp_part after insert on rich.measure for each row execute function rich.stamp();
create constraint trigger stamp_late after update on rich.egg deferrable initially deferred for each row execute function rich.stamp();
create trigger view_write instead of update on rich.over_by_key for each row execute function rich.stamp();
alter table rich.booking enable row level security;
create policy own_room on rich.booking using (room = 1) with check (room > 0);
alter table rich.deferred enable row level security, force row level security;
create policy all_of_it on rich.deferred as restrictive for select using (true);
create function rich.on_ddl() returns event_trigger language plpgsql as $$ begin perform 1; end $$;
create event trigger rich_ddl on ddl_command_end when tag in ('CREATE TABLE') execute function rich.on_ddl();

-- foreign data
create extension postgres_fdw;
create server elsewhere foreign data wrapper postgres_fdw options (host 'localhost', dbname 'x');
create foreign table rich.far (a int, b text) server elsewhere options (table_name 'far');

-- comments
comment on extension hstore is 'key and value';
comment on type rich.mood is 'how it goes';
comment on table rich.types is E'line\nand it''s a "quote"';
comment on column rich.types.m is 'mood';
comment on index rich.types_ts is 'words';
comment on constraint types_pkey on rich.types is 'the key';
comment on constraint no_overlap on rich.booking is 'one guest a time';
comment on constraint chicken_egg_fkey on rich.chicken is 'first';
comment on trigger stamp on rich.parent is 'stamps';
comment on policy own_room on rich.booking is 'mine';
comment on rule keep_counted on rich.counted is 'kept';
comment on materialized view rich.m1 is 'stored';
comment on view rich.by_key is 'grouped';
comment on function rich.twice(int) is 'doubles';
comment on event trigger rich_ddl is 'watches';
comment on index rich.measure_v is 'root';
create publication rich_pub for table rich.parent;
