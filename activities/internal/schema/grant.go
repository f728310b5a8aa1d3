package schema

import (
	"regexp"
	"strings"
)

// grantee is the role at the end of a GRANT or REVOKE of pg_dump.
var grantee = regexp.MustCompile(`(?s)^(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES) .* (?:TO|FROM) (?:GROUP )?("(?:[^"]|"")*"|[^" ]+)(?: WITH GRANT OPTION)?$`)

// grantor stands before what another role than the owner has granted.
var grantor = regexp.MustCompile(`(?s)^SET SESSION AUTHORIZATION (.*)$`)

// withoutLost leaves out of an entry's text the grants to and from roles that the target does not have, and counts them by
// role. An empty text says that nothing is left.
func withoutLost(text string, roles map[string]bool, lost map[string]int) string {
	var kept []string
	known := func(identifier string) bool {
		role := unquoted(identifier)
		if identifier == "PUBLIC" || roles[role] {
			return true
		}
		lost[role]++
		return false
	}
	foreign := false // inside a part whose grantor is not there: granted by us instead
	for _, statement := range strings.Split(strings.TrimSuffix(strings.TrimRight(text, " \n"), ";"), ";\n") {
		if match := grantor.FindStringSubmatch(statement); match != nil {
			if foreign = !roles[unquoted(match[1])]; foreign {
				continue
			}
		}
		if statement == "RESET SESSION AUTHORIZATION" && foreign {
			foreign = false
			continue
		}
		if match := grantee.FindStringSubmatch(statement); match != nil && !known(match[1]) {
			continue
		}
		kept = append(kept, statement+";")
	}
	return strings.Join(kept, "\n")
}

func unquoted(identifier string) string {
	if inner, ok := strings.CutPrefix(identifier, `"`); ok {
		return strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
	}
	return strings.Trim(identifier, "'")
}
