package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/tests/load"
)

// shopOperations are a day in the shop. They meet every kind of row change: new orders with their items and payment,
// counters, states, changes of keys, swaps of unique values, values out of line that change or stay, moves between
// partitions, cascades, rules.
var shopOperations = []load.Operation{
	order, order, orderByFunction, draft, postpone, advance, advance, cancel,
	sell, sell, restock, moveStock, renumberPayment, describe, reprice, reprice,
	register, renumberCustomer, swapEmails, setting, hire, fire, promote,
	logEvent, logEvent, book, book, rebook, unbook,
}

// statement is an operation of one statement whose parameters are drawn anew each time.
func statement(ctx context.Context, tx pgx.Tx, sql string, arguments ...any) error {
	_, err := tx.Exec(ctx, sql, arguments...)
	return err
}

// day is a date that any partition of the orders may hold, the default one included.
func day(r *rand.Rand) int { return r.IntN(1300) }

// noise does not compress, so that it is stored out of line.
func noise(r *rand.Rand, words int) string {
	var text strings.Builder
	for range words {
		fmt.Fprintf(&text, "%016x", r.Uint64())
	}
	return text.String()
}

func uuid(r *rand.Rand) string {
	hex := fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())
	return hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:]
}

const orderSQL = `
with placed as (
    insert into shop.orders (ordered_on, customer, status, total)
    select date '2023-01-01' + $1::int, c.id, 'paid', $2::int * 1.5 from shop.customer c where c.id >= $3 order by c.id limit 1
    returning id, ordered_on, total
), items as (
    insert into shop.order_item
    select p.id, p.ordered_on, line, 1 + ($2::int + line) % 500, line, 9.99 from placed p, generate_series(1, $4::int) line
)
insert into shop.payment (id, order_id, ordered_on, amount, details)
select $5::uuid, id, ordered_on, total, jsonb_build_object('by', 'card') from placed`

func order(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, orderSQL, day(r), r.IntN(300), 1+r.IntN(2000), 1+r.IntN(4), uuid(r))
}

func orderByFunction(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, "select shop.place_order($1, date '2023-01-01' + $2::int, $3, $4)", 1+r.IntN(2000), day(r), 1+r.IntN(500), 1+r.IntN(5))
}

func draft(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, "insert into shop.orders (ordered_on, customer, note) values (date '2023-01-01' + $1::int, $2, 'draft')", day(r), 1+r.IntN(2000))
}

// postpone moves drafts, which nothing refers to, from partition to partition.
const postponeSQL = `
update shop.orders set ordered_on = date '2023-01-01' + $1::int where (id, ordered_on) in (
    select id, ordered_on from shop.orders where status = 'new' and note = 'draft' order by id desc offset $2 limit 1 for update skip locked)`

func postpone(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, postponeSQL, day(r), r.IntN(20))
}

const advanceSQL = `
update shop.orders set status = case status when 'new' then 'paid' when 'paid' then 'shipped' else 'delivered' end::shop.order_status
where (id, ordered_on) in (
    select id, ordered_on from shop.orders where status in ('new', 'paid') and customer >= $1 order by customer limit 2 for update skip locked)`

func advance(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, advanceSQL, 1+r.IntN(2000))
}

// cancel deletes an order; its items go by cascade.
func cancel(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	customer := 1 + r.IntN(2000)
	err := statement(ctx, tx, `delete from shop.payment p using shop.orders o
		where o.id = p.order_id and o.ordered_on = p.ordered_on and o.customer = $1`, customer)
	if err != nil {
		return err
	}
	return statement(ctx, tx, "delete from shop.orders where customer = $1", customer)
}

func warehouse(r *rand.Rand) string { return []string{"BER", "HAM", "MUC"}[r.IntN(3)] }

func sell(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, "update shop.stock set quantity = quantity - 1 where warehouse = $1 and product = $2 and quantity > 0", warehouse(r), 1+r.IntN(500))
}

func restock(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, `insert into shop.stock values ($1, $2, $3, clock_timestamp())
		on conflict (warehouse, product) do update set quantity = stock.quantity + excluded.quantity, counted = excluded.counted`,
		warehouse(r), 1+r.IntN(500), r.IntN(50))
}

// moveStock changes a key of two columns, or clears the place for the next that comes.
func moveStock(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	product := 1 + r.IntN(500)
	if r.IntN(2) == 0 {
		return statement(ctx, tx, "delete from shop.stock where warehouse = $1 and product = $2", warehouse(r), product)
	}
	return statement(ctx, tx, "update shop.stock set warehouse = $1 where warehouse = $2 and product = $3", warehouse(r), warehouse(r), product)
}

func renumberPayment(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, `update shop.payment set id = $1 where id = (
		select id from shop.payment where id >= $2 order by id limit 1 for update skip locked)`, uuid(r), uuid(r))
}

func describe(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, "update shop.product set description = $2 where id = $1", 1+r.IntN(500), noise(r, 300+r.IntN(300)))
}

// reprice leaves description and picture as they are: the log does not hold their values.
func reprice(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, "update shop.product set price = $2::int / 100.0, active = not active where id = $1", 1+r.IntN(500), r.IntN(50000))
}

func register(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, `insert into shop.customer (email, name, shipping, tags, referred_by)
		values ($1, $2, row('Street', '12345', 'Köln', 'DE'), '{fresh}', $3)`, noise(r, 1)+"@example.org", "Fresh "+noise(r, 1), 1+r.IntN(2000))
}

// renumberCustomer takes a new number from the identity for a customer whom nothing refers to.
func renumberCustomer(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, `update shop.customer set id = default where id = (
		select id from shop.customer where tags = '{fresh}' and id > $1 order by id limit 1 for update skip locked)`, 2000+r.IntN(500))
}

func swapEmails(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	a := 1 + r.IntN(1999)
	b := a + 1 + r.IntN(2000-a)
	rows, err := tx.Query(ctx, "select email::text from shop.customer where id in ($1, $2) order by id for update", a, b)
	if err != nil {
		return err
	}
	emails, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(emails) < 2 {
		return err
	}
	for _, step := range []struct {
		id    int
		email string
	}{{a, noise(r, 1) + "@moving.example"}, {b, emails[0]}, {a, emails[1]}} {
		if err := statement(ctx, tx, "update shop.customer set email = $2 where id = $1", step.id, step.email); err != nil {
			return err
		}
	}
	return nil
}

func setting(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, `update shop.customer set settings = settings || jsonb_build_object('seen', $2::int), shipping = null
		where id = $1`, 1+r.IntN(2000), r.IntN(1000))
}

func hire(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, "insert into shop.employee (name, works_at, boss) values ($1, $2, $3)", "Employee "+noise(r, 1), warehouse(r), 1+r.IntN(10))
}

// fire deletes the boss of some: their reference becomes null.
func fire(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, `delete from shop.employee where id = (
		select id from shop.employee where id > 30 order by id offset $1 limit 1 for update skip locked)`, r.IntN(10))
}

func promote(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, "update shop.warehouse set manager = $2 where code = $1", warehouse(r), 1+r.IntN(30))
}

func logEvent(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, "insert into shop.event_log (who, what, payload) values (nullif($1, ''), $2, jsonb_build_object('n', $3::int))",
		[]string{"", "someone"}[r.IntN(2)], "visit", r.IntN(1000))
}

const duringSQL = `tsrange(timestamp '2025-06-01' + $2::int * interval '30 minutes', timestamp '2025-06-01' + ($2::int + 3) * interval '30 minutes')`

func book(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, "insert into calendar.booking (room, during, title) values ($1, "+duringSQL+", $3)",
		10*(1+r.IntN(12)), r.IntN(5000), "Meeting "+noise(r, 1))
}

// rebook fires a rule, which writes to another table.
func rebook(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, `update calendar.booking set during = `+duringSQL+`, title = $3 where id = (
		select id from calendar.booking where room = $1 order by id desc limit 1 for update skip locked)`,
		10*(1+r.IntN(12)), r.IntN(5000), "Moved "+noise(r, 1))
}

func unbook(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	return statement(ctx, tx, `delete from calendar.booking where id = (
		select id from calendar.booking where room = $1 order by id offset $2 limit 1 for update skip locked)`, 10*(1+r.IntN(12)), r.IntN(30))
}
