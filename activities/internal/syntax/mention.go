package syntax

import (
	"slices"
	"strings"
	"unicode"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// Mentions finds which words stand as identifiers in a text that no parse tree shows: the body of a function, in any
// language, with the statements that it builds from constants. Words are names as the catalog has them; in the text
// they are quoted, or folded to lower case. Comments do not count where the text reads as SQL. The result has the order
// of words.
func Mentions(body string, words []string) []string {
	found := map[string]bool{}
	mentioned(body, found)
	return slices.DeleteFunc(slices.Clone(words), func(word string) bool { return !found[word] })
}

func mentioned(body string, found map[string]bool) {
	list, err := tokens(body)
	if err != nil {
		mentionedAnyhow(body, found)
		return
	}
	for _, t := range list {
		switch {
		case t.word():
			found[t.name()] = true
		case t.kind == pg.Token_SCONST && len(t.inside()) < len(body):
			mentioned(t.inside(), found)
		}
	}
}

// mentionedAnyhow is for what is no SQL, such as a text with a lone quote: every word counts, in both spellings.
func mentionedAnyhow(body string, found map[string]bool) {
	for _, word := range strings.FieldsFunc(body, func(r rune) bool {
		return r != '_' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		found[word] = true
		found[strings.ToLower(word)] = true
	}
	for i, part := range strings.Split(body, `"`) {
		if i%2 == 1 {
			found[part] = true
		}
	}
}
