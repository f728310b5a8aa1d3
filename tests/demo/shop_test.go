package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/load"
	"github.com/pgdts/pgdts/tests/pgtest"
)

// Writers that match no row, or that fail by themselves, would prove nothing about the migration beside them.
func TestShopWritesToEveryTableInEveryWay(t *testing.T) {
	server := pgtest.Shared(t)
	db := pgtest.Database(t, server)
	for _, file := range []string{"shop.sql", "shop_data.sql"} {
		out, err := exec.Command(server.Binaries.Path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", filepath.Join("../..", fixtures, file), db.URI).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	db.Exec(t, calendar)
	db.Exec(t, load.Schema)
	db.Exec(t, `create table public.written (relation text, operation text, unique (relation, operation));
		create function public.note() returns trigger language plpgsql as $$ begin
			insert into public.written values (tg_table_name, tg_op) on conflict do nothing;
			return null;
		end $$`)
	for _, table := range []string{
		"shop.customer", "shop.product", "shop.warehouse", "shop.employee", "shop.stock", "shop.orders", "shop.order_item",
		"shop.payment", "shop.event_log", "calendar.booking", "calendar.moved",
	} {
		db.Exec(t, "create trigger note after insert or update or delete on "+table+" for each row execute function public.note()")
	}
	shop := load.Start(context.Background(), load.Config{URI: db.URI, Clients: 2, Operations: shopOperations, Seed: 7, Pause: time.Millisecond})
	defer shop.Stop()
	require.Eventually(t, func() bool { return shop.Commits() >= 1000 }, time.Minute, 20*time.Millisecond)
	outcome := shop.Stop()
	require.Empty(t, outcome.Errors)
	var written []string
	for _, row := range db.Query(t, "select relation || ' ' || operation from public.written order by 1") {
		written = append(written, row[0])
	}
	require.Subset(t, written, []string{
		"customer INSERT", "customer UPDATE", "product UPDATE", "warehouse UPDATE", "employee INSERT", "employee DELETE",
		"stock INSERT", "stock UPDATE", "stock DELETE", "payment INSERT", "payment UPDATE", "payment DELETE", "event_log INSERT",
		"orders_2023 INSERT", "orders_2023 UPDATE", "orders_2023 DELETE", "orders_rest INSERT", "order_item INSERT", "order_item DELETE",
		"booking INSERT", "booking UPDATE", "booking DELETE", "moved INSERT",
	})
}
