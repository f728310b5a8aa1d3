package syntax_test

import (
	"slices"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/syntax"
)

func TestNamesInBodiesAreFound(t *testing.T) {
	t.Parallel()
	words := []string{"orders", "shop", "Mixed Case", `we"ird`, "größe", "data"}
	for body, want := range map[string][]string{
		"begin select * from Shop.ORDERS; end":                                {"orders", "shop"},
		`select "Mixed Case".x, "Orders", "we""ird" from reorders`:            {"Mixed Case", `we"ird`},
		"-- orders\n/* shop */ select 1":                                      nil,
		"begin execute 'select * from shop.orders where x = ''y'''; end":      {"orders", "shop"},
		"begin execute $q$ insert into orders values ('data') $q$; end":       {"orders", "data"},
		"execute format('delete from %I.%I', 'shop', name)":                   {"shop"},
		`execute E'delete from \'orders\''`:                                   {"orders"},
		"it's a python text about Orders and \"Mixed Case\", größe; orders_2": {"orders", "Mixed Case", "größe"},
		"":                   nil,
		"'":                  nil,
		"select data from t": {"data"},
	} {
		if got := syntax.Mentions(body, words); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}
