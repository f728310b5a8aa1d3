package syntax_test

import (
	"testing"

	"github.com/pgdts/pgdts/activities/internal/syntax"
)

const table = `CREATE TABLE shop.orders (
    id bigint DEFAULT nextval('shop.orders_id_seq'::regclass) NOT NULL,
    state shop.order_state DEFAULT 'new'::shop.order_state NOT NULL,
    note text COLLATE shop.german,
    created timestamp with time zone DEFAULT now(),
    CONSTRAINT fits CHECK (shop.fits(orders.*))
);
`

func BenchmarkRename(b *testing.B) {
	if _, err := syntax.Rename(table, shopNames()); err != nil { // compiles the parser
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := syntax.Rename(table, shopNames()); err != nil {
			b.Fatal(err)
		}
	}
}
