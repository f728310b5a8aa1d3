package syntax

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// token is a word, a constant or a sign of a text; comments are none.
type token struct {
	start, end int // bytes
	kind       pg.Token
	keyword    pg.KeywordKind
	text       string
}

func tokens(sql string) ([]token, error) {
	result, err := scan(sql)
	if err != nil {
		return nil, err
	}
	var list []token
	for _, t := range result.GetTokens() {
		if t.GetToken() == pg.Token_SQL_COMMENT || t.GetToken() == pg.Token_C_COMMENT {
			continue
		}
		start, end := int(t.GetStart()), int(t.GetEnd())
		list = append(list, token{start: start, end: end, kind: t.GetToken(), keyword: t.GetKeywordKind(), text: sql[start:end]})
	}
	return list, nil
}

func (t token) is(sign string) bool { return t.text == sign }

// word reports whether the token may be a name, be it a keyword.
func (t token) word() bool {
	return t.kind == pg.Token_IDENT || t.keyword != pg.KeywordKind_NO_KEYWORD
}

// name is the name that the token means: without quotes, or with A to Z in lower case.
func (t token) name() string {
	if quoted, ok := strings.CutPrefix(t.text, `"`); ok {
		return strings.ReplaceAll(strings.TrimSuffix(quoted, `"`), `""`, `"`)
	}
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, t.text)
}

// inside is what a constant says, as far as it may hold names: between its quotes or dollar signs.
func (t token) inside() string {
	if strings.HasPrefix(t.text, "$") {
		tag := t.text[:strings.Index(t.text[1:], "$")+2]
		return strings.TrimSuffix(strings.TrimPrefix(t.text, tag), tag)
	}
	text := strings.TrimSuffix(t.text[strings.Index(t.text, "'")+1:], "'")
	return strings.NewReplacer("''", "'", `\\`, `\`, `\'`, `'`).Replace(text)
}
