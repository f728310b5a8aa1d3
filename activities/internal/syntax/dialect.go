package syntax

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// spellings gives, for tokens of a statement as PostgreSQL 18 writes it, what the grammar of 17 reads instead. It is for
// the parser only, holds no names, and is the same before and after names have changed.
func spellings(list []token) map[int]string {
	instead := map[int]string{}
	for i := range list {
		switch {
		case words(list, i, "generated", "always", "as", "("):
			if end := closing(list, i+3); words(list, end+1, "virtual") {
				instead[end+1] = "stored"
			} else if end > 0 && !words(list, end+1, "stored") {
				instead[end] = ") stored"
			}
		case words(list, i, "not", "enforced") && i > 0 && slices.Contains(constraintEnds, strings.ToLower(list[i-1].text)):
			instead[i], instead[i+1] = "", ""
		case words(list, i, "null", "no", "inherit"):
			instead[i+1], instead[i+2] = "", ""
		case words(list, i, "without", "overlaps", ")"):
			instead[i], instead[i+1] = "", ""
		case words(list, i, ",", "period") && i+2 < len(list) && list[i+2].word():
			instead[i+1] = ""
		case notNull(list, i):
			instead[i+2], instead[i+3], instead[i+4] = "check", "(", list[i+4].text+" is not null)"
		}
	}
	return instead
}

// constraintEnds stand before NOT ENFORCED; in an expression the word would be a column.
var constraintEnds = []string{")", "cascade", "restrict", "null", "default", "action", "full", "deferrable"}

// notNull reports whether constraint NAME not null COLUMN begins an element of a table's definition.
func notNull(list []token, i int) bool {
	return i > 0 && slices.Contains([]string{"(", ",", "add"}, strings.ToLower(list[i-1].text)) &&
		words(list, i, "constraint") && words(list, i+2, "not", "null") && i+4 < len(list) && list[i+4].word()
}

// words reports whether tokens are these words or signs.
func words(list []token, at int, wanted ...string) bool {
	if at < 0 || at+len(wanted) > len(list) {
		return false
	}
	for i, word := range wanted {
		if !strings.EqualFold(list[at+i].text, word) {
			return false
		}
	}
	return true
}

// closing finds the parenthesis that closes another; -1 where there is none.
func closing(list []token, open int) int {
	depth := 0
	for i := open; i < len(list); i++ {
		switch {
		case list[i].is("("):
			depth++
		case list[i].is(")"):
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// parseNewer parses what 17 or 18 writes.
func parseNewer(sql string) (*pg.ParseResult, error) {
	list, err := tokens(sql)
	if err != nil {
		return nil, err
	}
	return parse(marked{tokens: list}.edited(sql, spellings(list)))
}
