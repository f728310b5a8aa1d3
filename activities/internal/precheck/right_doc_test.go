package precheck_test

import (
	"os"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// The rights that docs/rights.md calls enough are enough: each block is run as it stands, on a server of its own, and then
// nothing blocks. Where an administrator has more to do, it is what the items print.
func TestRightsOfTheDocumentAreEnough(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/rights.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		title, rest, _ := strings.Cut(section, "\n")
		_, block, found := strings.Cut(rest, "```sql\n")
		if !found {
			continue
		}
		block, _, _ = strings.Cut(block, "```")
		blocks++
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			documented(t, title, block)
		})
	}
	if blocks < 6 {
		t.Errorf("%d blocks were found in docs/rights.md", blocks)
	}
}

func documented(t *testing.T, title, block string) {
	t.Helper()
	both := pgtest.Server(t)
	p := between(t, both, both)
	p.source.Exec(t, `create role app login; create schema sales authorization app; set role app;
		create table sales.orders (id serial primary key, note text); create table sales.item (orders int references sales.orders, n int)`)
	db := p.target
	if strings.HasPrefix(title, "Source") {
		db = p.source
		p.sourceRole = "mover"
	} else {
		p.targetRole = "keeper"
	}
	db.Exec(t, strings.ReplaceAll(block, "database shop", `database "`+db.Name+`"`))
	side := migration.Target
	if p.sourceRole != "" {
		side = migration.Source
	}
	if strings.Contains(title, "without changes") {
		p.spec.Types = []migration.Type{migration.TypeSchema, migration.TypeFull}
	}
	items := p.check(t)
	if strings.Contains(title, "an administrator") {
		for _, code := range []string{"PUBLICATION_RIGHT", "FENCE_RIGHT"} {
			db.Exec(t, items.mustBe(t, code, migration.ItemFailed).Fix)
		}
		items = p.check(t)
	}
	items.mustNotBlock(t, side)
	if strings.Contains(title, "from the beginning") {
		items.mustPass(t, "REPLICA_ROLE")
	}
}
