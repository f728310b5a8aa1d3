package syntax

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// marked is a statement in which each name that may have to change is written as the number of its token, so that the
// tree tells which token a name comes from: the parser keeps no positions of most names.
type marked struct {
	sql    string
	tokens []token
	at     map[int]int // byte of the marked text → the token that begins there
	sign   string      // begins a mark; it is nowhere in the statement
	any    *regexp.Regexp
}

func mark(sql string, list []token, names Names) marked {
	m := marked{tokens: list, at: map[int]int{}, sign: "~"}
	for strings.Contains(sql, m.sign) {
		m.sign += "~"
	}
	m.any = regexp.MustCompile(m.sign + `(\d+!|-)`)
	single, instead := schemaNames(list), spellings(list)
	var text strings.Builder
	written := 0
	for i, t := range list {
		text.WriteString(sql[written:t.start])
		m.at[text.Len()] = i
		spelling, other := instead[i]
		switch {
		case other:
			text.WriteString(spelling)
		case t.word() && (dotted(list, i) || single[i] && names.Schema(t.name()) != t.name()):
			fmt.Fprintf(&text, `"%s%d!"`, m.sign, i)
		default:
			text.WriteString(t.text)
		}
		written = t.end
	}
	text.WriteString(sql[written:])
	m.sql = text.String()
	return m
}

// dotted reports whether a token is part of a qualified name; there any word is only a name to the parser.
func dotted(list []token, i int) bool {
	return i > 0 && list[i-1].is(".") || i+1 < len(list) && list[i+1].is(".")
}

// schemaNames finds words that stand where a schema is named by itself. Elsewhere a word such as public may be one that
// the parser knows.
func schemaNames(list []token) map[int]bool {
	found := map[int]bool{}
	expecting, listed := false, false
	for i, t := range list {
		word := strings.ToLower(t.text)
		switch {
		case expecting && (slices.Contains([]string{"not", "exists", "to", "="}, word) || word == "if" && i+1 < len(list) && list[i+1].keyword != pg.KeywordKind_NO_KEYWORD):
		case expecting && (t.word() || t.kind == pg.Token_SCONST):
			found[i] = t.word()
			expecting, listed = false, true
		case t.kind == pg.Token_SCHEMA || t.word() && t.name() == "search_path":
			expecting, listed = true, false
		case listed && t.is(","):
			expecting, listed = true, false
		default:
			expecting, listed = false, false
		}
	}
	return found
}

// plain is the name that a mark stands for, and its token; what is no mark is itself, without a token (-1).
func (m marked) plain(name string) (string, int) {
	number, ok := strings.CutPrefix(name, m.sign)
	if !ok {
		return name, -1
	}
	i, err := strconv.Atoi(strings.TrimSuffix(number, "!"))
	if err != nil || i >= len(m.tokens) {
		return name, -1
	}
	return m.tokens[i].name(), i
}

// shield keeps a new name from being taken for a mark.
func (m marked) shield(name string) string { return strings.ReplaceAll(name, m.sign, m.sign+"-") }

// unmark puts back the names whose marks are left, and takes the shields away.
func (m marked) unmark(node protoreflect.Message) error {
	node.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Kind() == protoreflect.StringKind && !field.IsList() && strings.Contains(value.String(), m.sign) {
			node.Set(field, protoreflect.ValueOfString(m.any.ReplaceAllStringFunc(value.String(), func(mark string) string {
				if mark == m.shield(m.sign) {
					return m.sign
				}
				name, _ := m.plain(mark)
				return name
			})))
		}
		return true
	})
	return each(node, m.unmark)
}

// edited is the statement with other texts for some of its tokens.
func (m marked) edited(sql string, edits map[int]string) string {
	var text strings.Builder
	written := 0
	for i, t := range m.tokens {
		if edit, ok := edits[i]; ok {
			text.WriteString(sql[written:t.start])
			text.WriteString(edit)
			written = t.end
		}
	}
	text.WriteString(sql[written:])
	return text.String()
}
