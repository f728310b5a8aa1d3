create schema if not exists dts_sync;

create table if not exists dts_sync.migration (
    id              text primary key,
    run             text not null,              -- the execution that may work: the lease's holder
    lease_until     timestamptz not null,       -- renewed by the holder; another takes over only after it
    spec            jsonb not null,
    phase           text not null default 'prepare',
    source_sysid    text,
    source_timeline int,
    slot            text,
    publications    text[] not null default '{}',
    start_lsn       pg_lsn,                     -- consistent point of the slot (L0)
    start_snapshot  text,                       -- the snapshot exported there (S0)
    snapshot_name   text,                       -- without incremental: the snapshot that all tables are copied under
    snapshot_epoch  int not null default 0,     -- counts such snapshots: one that is lost takes the copy with it
    identities      jsonb not null default '[]',-- replica identities that we changed on the source, to be restored
    replica_role    boolean not null default true, -- may sessions on the target set session_replication_role?
    planned         boolean not null default false,
    schema_created  boolean not null default false,
    changes         bigint not null default 0,  -- applied by the stream
    fenced_at       timestamptz,                -- something of ours on the source may refuse writes since
    opened_at       timestamptz,                -- the tombstone: from here on nobody of us writes
    evidence        jsonb,                      -- what the cutover leaves for the report; commits with opened_at
    ended           text,                       -- finished stopped failed
    created_at      timestamptz not null default now(),
    notes           jsonb not null default '[]'
);

create table if not exists dts_sync.lane (
    migration text not null references dts_sync.migration on delete cascade,
    lane      text not null,
    token     bigint not null,
    primary key (migration, lane)
);

create table if not exists dts_sync.tbl (
    migration   text not null references dts_sync.migration on delete cascade,
    relid       oid not null,                   -- on the source
    schema      text not null,
    name        text not null,
    target_schema text not null,                -- on the target
    target_name text not null,
    mode        text not null,                  -- keyrange onesnap root
    stage       text not null default 'planned',-- planned copied band exact
    published   text not null default 'all',    -- all insert (no usable key: updates and deletes are not streamed)
    key         text[] not null default '{}',
    def         jsonb not null,                 -- mapping.Table as planned
    fingerprint text not null,
    est_rows    bigint not null default 0,
    est_bytes   bigint not null default 0,
    smin        text,                           -- smallest and greatest snapshot among the chunks
    smax        text,
    extra       text[] not null default '{}',   -- snapshots of rows fetched again in the band
    hi_lsn      pg_lsn,                         -- the band ends when the stream has passed this
    was_empty   boolean not null default false, -- found on the target without rows: what is in it is the copy's
    writes_base bigint,                         -- updates+deletes counted on the source before the copy (published=insert); -1: it failed over since
    truncates   bigint not null default 0,
    truncated   pg_lsn,                         -- a person has dealt with the source's TRUNCATEs up to here (rows of others are there)
    conflicts   bigint not null default 0,      -- rows that were not as the exact regime demands
    verdict     text,
    finisher    text,                           -- the lane that builds this table's key and indexes
    held        boolean not null default false, -- its chunks are of one snapshot that lanes hold for this table alone
    holder      text,                           -- the lane that takes that snapshot
    snapshot_epoch int not null default 0,      -- counts such snapshots: one that is lost takes this table's copy with it
    snapshot_names text[] not null default '{}',-- of the sessions that hold it; none: no chunk can be copied
    snapshot    text,
    failed_at   timestamptz,                    -- start of the outage of this table
    retry_at    timestamptz,
    error       text,
    primary key (migration, relid)
);

create table if not exists dts_sync.chunk (
    migration text not null,
    relid     oid not null,
    no        int not null,
    ord       bigint not null default 0,        -- the order of claiming: largest table first
    lo        text[],                           -- half-open key range [lo, hi); null = unbounded
    hi        text[],
    bytes_est bigint not null default 0,
    state     text not null default 'todo',     -- todo done
    snap      text,
    snap_lsn  pg_lsn,
    rows      bigint not null default 0,
    bytes     bigint not null default 0,
    kept      bigint not null default 0,        -- rows that were not written, because the target had their key (conflict: ignore)
    attempts  int not null default 0,           -- attempts that were begun (written outside the chunk's transaction); one at several
                                                -- small tables at once counts at the first of them
    token     bigint,                           -- of the lane that claimed it last; null = nobody has
    failed_at timestamptz,                      -- start of the outage of this chunk
    retry_at  timestamptz,
    error     text,
    primary key (migration, relid, no),
    foreign key (migration, relid) references dts_sync.tbl on delete cascade
) with (fillfactor = 70);                       -- a claim changes no index where its page has room for it

create index if not exists tbl_unfinished on dts_sync.tbl (migration, stage, est_bytes desc, relid) where stage in ('planned', 'copied');
create index if not exists tbl_failing on dts_sync.tbl (migration) where failed_at is not null;
create index if not exists chunk_todo on dts_sync.chunk (migration, ord) where state = 'todo';
create index if not exists chunk_failing on dts_sync.chunk (migration) where failed_at is not null;

create table if not exists dts_sync.progress (
    migration text primary key references dts_sync.migration on delete cascade,
    end_lsn   pg_lsn not null,                  -- end of the last applied commit; the slot is confirmed to here, never beyond
    commit_ts timestamptz,
    token     bigint not null
) with (fillfactor = 10);

create table if not exists dts_sync.object (
    migration text not null references dts_sync.migration on delete cascade,
    no        int not null,                     -- position in the dump
    dump_id   int not null,
    depends   int[] not null default '{}',
    section   text not null,                    -- before key index constraint opening after
    kind      text not null,                    -- pg_dump's description: TABLE, FK CONSTRAINT, …
    schema    text not null default '',
    name      text not null,
    relid     oid,                              -- the table it belongs to, for keys and indexes
    locks     oid[] not null default '{}',      -- tables that its DDL locks; objects with none in common run at once
    ddl       text not null,
    undo      text not null default '',         -- pg_dump's statement that drops it; empty where there is none
    state     text not null default 'pending',  -- pending done failed skipped
    sqlstate  text,
    message   text,                             -- "was there already": done, but not made by us
    hint      text,
    primary key (migration, no)
);

create index if not exists object_relid on dts_sync.object (migration, relid);

create table if not exists dts_sync.conflict (
    migration text not null references dts_sync.migration on delete cascade,
    relid     oid not null,
    at        timestamptz not null default now(),
    end_lsn   pg_lsn not null,
    op        text not null,
    key       text not null,
    what      text not null
);

create table if not exists dts_sync.kept (
    migration text not null references dts_sync.migration on delete cascade,
    relid     oid not null,
    key       text not null,                    -- row(key columns of the target)::text of a row that the copy left as it was
    primary key (migration, relid, key)
);
