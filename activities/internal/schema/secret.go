package schema

import (
	"regexp"
	"slices"
)

// secretOption is an option of a foreign server or of a user's mapping to it whose value nobody but its user may know, as
// pg_dump writes it: password 'x', or E'…' where the value holds a backslash.
var secretOption = regexp.MustCompile(`(?i)("?\w*(?:password|passwd|passphrase|secret|token|credential)\w*"? )E?'(?:[^']|'')*'`)

// withOptions are the kinds that hold such options.
var withOptions = []string{"USER MAPPING", "SERVER", "FOREIGN DATA WRAPPER"}

const secretReason = "its options hold a password, which would have to be stored in the ledger: create it by hand"

// withoutSecrets takes the secrets out of an entry's text, and reports whether there were any. Without them it must not be
// created.
func withoutSecrets(e Entry) (Entry, bool) {
	if !slices.Contains(withOptions, e.Kind) || !secretOption.MatchString(e.DDL) {
		return e, false
	}
	e.DDL = secretOption.ReplaceAllString(e.DDL, "$1''")
	return e, true
}
