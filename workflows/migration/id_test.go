package migration_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/workflows/migration"
)

func TestDerivedIDFindsItsMigrationAgain(t *testing.T) {
	t.Parallel()
	source := migration.Endpoint{URI: "postgres://app@10.0.0.5:5432/shop"}
	target := migration.Endpoint{URI: "postgres://owner@10.0.0.9:5432/shop"}
	id := migration.DerivedID("shop", source, target)
	if again := migration.DerivedID("shop", source, target); again != id {
		t.Errorf("%s, then %s", id, again)
	}
	fields := migration.Endpoint{Host: "10.0.0.5", Port: 5432, Database: "shop", User: "app"}
	if same := migration.DerivedID("shop", fields, target); same != id {
		t.Errorf("the same endpoint in fields is %s, not %s", same, id)
	}
	elsewhere := target
	elsewhere.URI += "2"
	for _, other := range []migration.ID{
		migration.DerivedID("shop2", source, target), migration.DerivedID("shop", target, source), migration.DerivedID("shop", source, elsewhere),
	} {
		if other == id {
			t.Errorf("another migration has the same id %s", id)
		}
	}
}

// A password in a definition must not change the id, or the migration is not found again after it was changed.
func TestDerivedIDHoldsNoPassword(t *testing.T) {
	t.Parallel()
	target := migration.Endpoint{URI: "postgres://h/d"}
	a := migration.DerivedID("n", migration.Endpoint{URI: "postgres://app:one@h/d"}, target)
	b := migration.DerivedID("n", migration.Endpoint{URI: "postgres://app:two@h/d", PasswordFrom: &migration.SecretRef{Env: "P"}}, target)
	if a != b {
		t.Errorf("%s and %s", a, b)
	}
	if address := (migration.Endpoint{URI: "postgres://app:secret@h:1/d"}).Address(); address != "app@h:1/d" {
		t.Error(address)
	}
}

func TestIDParses(t *testing.T) {
	t.Parallel()
	for _, id := range []migration.ID{migration.RandomID("shop"), migration.RandomID("a-to-b"), "pgdts/with/slash/abcdefghij"} {
		parsed, err := migration.ParseID(string(id))
		if err != nil || parsed != id || len(id.Short()) != 10 {
			t.Errorf("%s: %s, %v", id, parsed, err)
		}
	}
	if id := migration.ID("pgdts/shop-to-apsara/abcdefghij"); id.Name() != "shop-to-apsara" || id.Short() != "abcdefghij" {
		t.Errorf("%s: %s, %s", id, id.Name(), id.Short())
	}
	for _, text := range []string{"", "pgdts/", "pgdts//abcdefghij", "pgdts/shop", "pgdts/shop/short", "pgdts/shop/abcdefghijk", "dts/shop/abcdefghij"} {
		if id, err := migration.ParseID(text); err == nil {
			t.Errorf("%q is %s", text, id)
		}
	}
}

// Servers cut names at 63 bytes, silently: two migrations would then share a slot.
func TestNamesOfAnIDFitTheServer(t *testing.T) {
	t.Parallel()
	slot := regexp.MustCompile(`^dts_sync_[a-z0-9_]+$`) // all that a slot's name may hold
	for range 100 {
		id := migration.RandomID(strings.Repeat("long", 25))
		for _, name := range []string{id.Slot(), id.Publication(), id.PublicationInsertOnly()} {
			if !slot.MatchString(name) || len(name) > 63 {
				t.Errorf("%s cannot be a name", name)
			}
		}
		if id.Publication() == id.PublicationInsertOnly() {
			t.Error("both publications have one name")
		}
		session := id.Session("constraints-63", 1<<62)
		if len(session) > 63 || !strings.HasPrefix(session, id.SessionPrefix("constraints-63")) {
			t.Errorf("%s is no application_name", session)
		}
		// copy-1 must not end the sessions of copy-11.
		if strings.HasPrefix(id.Session("copy-11", 1), id.SessionPrefix("copy-1")) {
			t.Error("one lane's prefix is another's")
		}
	}
}
