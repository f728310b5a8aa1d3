package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Operations write to the tables of Schema: inserts, updates, deletes, key changes, swaps of unique values, values out
// of line, cascades, moves between partitions, and rows that no key tells apart.
var Operations = append(inPlace[:len(inPlace):len(inPlace)], movePart)

// inPlace are those of Operations that leave rows in their partitions.
var inPlace = []Operation{
	insertItem, updateNumber, updateBig, takeUnique, moveKey, moveKey, deleteItem, swapSeats, rotateSeats,
	upsertPair, updatePair, deletePair, family, family, deleteParent, insertPart,
	insertNoKey, updateWhole, insertWhole, deleteWhole,
}

func key(r *rand.Rand) string {
	return fmt.Sprintf("%c-%03d", "aBcDé"[r.IntN(4)], r.IntN(150))
}

func big(r *rand.Rand) string {
	return strings.Repeat(fmt.Sprintf("%08x", r.Uint32()), 330)
}

func exec(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	_, err := tx.Exec(ctx, sql, args...)
	return err
}

func insertItem(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, "insert into load.item values ($1, $2, $3, $4)", key(r), r.IntN(1e6), r.IntN(400), big(r))
}

func updateNumber(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, "update load.item set n = $2 where k = $1", key(r), r.IntN(1e6))
}

func updateBig(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, "update load.item set n = $2, big = $3 where k = $1", key(r), r.IntN(1e6), big(r))
}

func takeUnique(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	u := r.IntN(400)
	if err := exec(ctx, tx, "update load.item set u = null where u = $1", u); err != nil {
		return err
	}
	return exec(ctx, tx, "update load.item set u = $2 where k = $1", key(r), u)
}

func moveKey(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, "update load.item set k = $2 where k = $1", key(r), key(r))
}

func deleteItem(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, "delete from load.item where k = $1", key(r))
}

func swapSeats(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	a, b := 1+r.IntN(40), 1+r.IntN(40)
	return exec(ctx, tx, `update load.seat s set no = o.no, who = $3 from load.seat o
		where s.id in ($1, $2) and o.id in ($1, $2) and s.id <> o.id`, min(a, b), max(a, b), fmt.Sprint(r.IntN(1000)))
}

func rotateSeats(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	if err := exec(ctx, tx, "set constraints all deferred"); err != nil {
		return err
	}
	first := 1 + r.IntN(30)
	return exec(ctx, tx, `update load.seat s set no = o.no from load.seat o
		where s.id between $1 and $1 + 3 and o.id = $1 + (s.id - $1 + 1) % 4`, first)
}

func upsertPair(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, `insert into load.pair values ($1, $2, jsonb_build_object('v', $3::int), array['x', null, $2])
		on conflict (a, b) do update set v = excluded.v, at = now()`, r.IntN(20), key(r), r.IntN(1e6))
}

func updatePair(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, "update load.pair set v = jsonb_build_object('w', $3::int), a = $2 where a = $1 and b = $4",
		r.IntN(20), r.IntN(20), r.IntN(1e6), key(r))
}

func deletePair(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, "delete from load.pair where a = $1 and b < $2", r.IntN(20), key(r))
}

func family(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, `with p as (insert into load.parent (name) values ($1) returning id)
		insert into load.child (parent, price) select id, $2::int / 100.0 from p, generate_series(1, 3)`, key(r), r.IntN(100000))
}

func deleteParent(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, `delete from load.parent where id in
		(select id from load.parent order by id offset $1 limit 2 for update skip locked)`, r.IntN(50))
}

func insertPart(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, "insert into load.part values ($1, date '2024-01-01' + $2::int, $3)", r.IntN(1e6), r.IntN(360), key(r))
}

func movePart(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, `update load.part set day = date '2024-01-01' + $1::int where (id, day) in
		(select id, day from load.part order by id offset $2 limit 1 for update skip locked)`, r.IntN(360), r.IntN(50))
}

func insertNoKey(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, "insert into load.nokey values ('row', $1), ('row', $1)", r.IntN(50))
}

// A table whose rows no key tells apart costs the target a scan for each change, so it is changed row by row and kept
// small.
func updateWhole(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, `update load.whole set c = c + 0.5, b = nullif($2, '')
		where ctid = (select ctid from load.whole where a = $1 limit 1 for update skip locked)`, r.IntN(20), []string{"", "x"}[r.IntN(2)])
}

func insertWhole(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, "insert into load.whole values ($1, null, 1.0), ($1, null, 1.0)", r.IntN(20))
}

func deleteWhole(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return exec(ctx, tx, `delete from load.whole where ctid = any (array
		(select ctid from load.whole where a = $1 limit 2 for update skip locked))`, r.IntN(20))
}
