create table if not exists dts_sync.throttle (
    migration text not null references dts_sync.migration on delete cascade,
    kind      text not null,                    -- full incremental
    -- Queries, rows, bytes, in this order. What may have passed by a time t is allowed + rates * (t - since).
    rates     float8[] not null,                -- per second; 0 = no cap
    allowed   float8[] not null,
    granted   float8[] not null,                -- what lanes were given; they wait until it is allowed
    since     timestamptz not null,
    primary key (migration, kind)
) with (fillfactor = 10);
