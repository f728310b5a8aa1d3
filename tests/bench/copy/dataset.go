package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/pgdts/pgdts/tests/bench/arena"
)

// dataset is a database of the source.
type dataset struct {
	name string
	fill func(context.Context, arena.Server) error
	// large are the tables that streams share; the others go through one of them.
	large []string
}

func datasets(o options) []dataset {
	all := []dataset{
		{"pgbench", func(ctx context.Context, s arena.Server) error { return fillPgbench(ctx, s, o.scale) }, []string{"pgbench_accounts"}},
		{"wide", func(ctx context.Context, s arena.Server) error { return fillWide(ctx, s, o.rows) }, []string{"wide"}},
	}
	return slices.DeleteFunc(all, func(d dataset) bool { return !slices.Contains(o.datasets, d.name) })
}

func fillPgbench(ctx context.Context, s arena.Server, scale int) error {
	if err := s.Fresh(ctx, "pgbench"); err != nil {
		return err
	}
	return arena.Do(s.Command(ctx, "pgbench", "-i", "-q", "--foreign-keys", "-s", strconv.Itoa(scale), s.URI("pgbench")))
}

// wideTable has the types that real tables have, and three indexes besides what its rows refer to.
const wideTable = `
create table customer (id int primary key, name text not null);
create table wide (
    id uuid primary key, customer int not null references customer, at timestamptz not null, amount numeric(14, 4) not null,
    tags text[] not null, scores int[], doc jsonb not null, note text);
insert into customer select g, 'customer ' || g from generate_series(1, 10000) g;
create index wide_at on wide (at);
create index wide_customer on wide (customer, amount);
insert into wide
select md5(g::text)::uuid, g %% 10000 + 1, '2020-01-01'::timestamptz + g * interval '37 s', (g %% 1000003) / 7.0,
       array['tag' || g %% 17, 'tag' || g %% 23], case when g %% 3 = 0 then array[g, g / 2, g / 3] end,
       jsonb_build_object('n', g, 'name', md5((g * 3)::text), 'nested', jsonb_build_object('a', g %% 100, 'b', array[g %% 5, g %% 7])),
       case when g %% 4 > 0 then repeat(md5((g * 7)::text), g %% 5 + 1) end
from generate_series(1, %d) g`

func fillWide(ctx context.Context, s arena.Server, rows int) error {
	if err := s.Fresh(ctx, "wide"); err != nil {
		return err
	}
	return s.Exec(ctx, "wide", fmt.Sprintf(wideTable, rows))
}
