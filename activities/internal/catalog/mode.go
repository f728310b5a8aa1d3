package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/pgdts/pgdts/workflows/migration"
)

// What of a table's changes is published.
const (
	PublishedAll    = "all"    // inserts, updates, deletes, truncations
	PublishedInsert = "insert" // inserts and truncations: an update of a row that nothing identifies would fail on the source
)

// Published says what of a table's changes can be published without breaking the application's updates and deletes.
// With withoutKey = full the identity will be set to FULL, so that everything can. An unlogged table is in no publication;
// it counts as insert, because it is treated the same way: Writes tells whether it must be copied again.
func (t Table) Published(withoutKey migration.WithoutKey) string {
	if !t.Unlogged && (t.Found || withoutKey == migration.FullIdentity) {
		return PublishedAll
	}
	return PublishedInsert
}

// Mode is how the table's rows are carried. Key ranges need a key by which the changes in the copy's band converge, and
// an index that can be trusted to find every row; rows of an extension's table are chosen by the extension's condition.
func (t Table) Mode(withoutKey migration.WithoutKey) migration.TableMode {
	switch {
	case t.Kind == "p":
		return migration.ModeRoot
	case len(t.Key) > 0 && t.KeyTrusted && t.Extension == "" && t.Published(withoutKey) == PublishedAll:
		return migration.ModeKeyRange
	}
	return migration.ModeOneSnapshot
}

// Fingerprint changes when the table is another table, or its rows would be read or identified in another way. Sizes,
// indexes beside the key, defaults and the table's parents do not matter.
func (t Table) Fingerprint() string {
	text := fmt.Sprintf("%d %q %q %s %s %t %q\n", t.OID, t.Name.Schema, t.Name.Name, t.Kind, t.Identity, t.Found, t.Key)
	for _, c := range t.Columns {
		text += fmt.Sprintf("%d %q %q %d %t %s %t %q\n", c.Num, c.Name, c.Type, c.TypeOID, c.NotNull, c.Identity, c.Generated, c.Collation)
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
