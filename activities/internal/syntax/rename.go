package syntax

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Names says what things are called on the target.
type Names interface {
	// Same reports whether every name stays as it is.
	Same() bool
	// Schema is asked for schemas, and for functions, operators, collations and whatever else changes by its schema only.
	Schema(name string) string
	// Relation is asked for tables, views, sequences, indexes and types. An index may get another schema, that of its
	// table, but no other name: where it is made it stands by its name alone.
	Relation(name migration.TableName) migration.TableName
}

// Rename writes every reference to a renamed object in one or several statements anew, as far as the parse tree shows
// them; bodies of functions in quotes are texts and stay (Mentions finds what they name). Nothing else of the text
// changes: what has no such reference comes back byte for byte. The error is an *Error when the parser does not know the
// statement; otherwise it names the statement's head.
func Rename(ddl string, names Names) (string, error) {
	if names.Same() {
		return ddl, nil
	}
	list, err := tokens(ddl)
	if err != nil {
		return "", err
	}
	if !concerned(list, names) {
		return ddl, nil
	}
	text := mark(ddl, list, names)
	tree, err := parse(text.sql)
	if err != nil {
		if _, original := parseNewer(ddl); original != nil {
			return "", original
		}
		return "", fmt.Errorf("rename in %q: with marks the parser refuses it: %w", head(ddl), err)
	}
	r := &renamer{names: names, text: text, edits: map[int]string{}, seen: map[proto.Message]bool{}, bare: map[*pg.RangeVar]bool{}}
	if err := r.all(tree); err != nil {
		return "", fmt.Errorf("rename in %q: %w", head(ddl), err)
	}
	if len(r.edits) == 0 {
		return ddl, nil
	}
	renamed := text.edited(ddl, r.edits)
	if err := mustMean(renamed, tree); err != nil {
		return "", fmt.Errorf("rename in %q: %w", head(ddl), err)
	}
	return renamed, nil
}

// RenameExpression is Rename for an expression as Expression takes it.
func RenameExpression(text string, names Names) (string, error) {
	if _, err := Expression(text); err != nil {
		return "", err
	}
	renamed, err := Rename(expressionHead+text+expressionTail, names)
	return strings.TrimSuffix(strings.TrimPrefix(renamed, expressionHead), expressionTail), err
}

// concerned reports whether a text may hold a name that changes. It errs on the side of yes: the answer no spares the
// work, and statements of versions that the parser does not know yet.
func concerned(list []token, names Names) bool {
	for i, t := range list {
		switch {
		case t.word() && names.Schema(t.name()) != t.name():
			return true
		case t.word() && i+2 < len(list) && list[i+1].is(".") && list[i+2].word():
			name := migration.TableName{Schema: t.name(), Name: list[i+2].name()}
			if names.Relation(name) != name {
				return true
			}
		case t.kind == pg.Token_UIDENT:
			return true
		case t.kind == pg.Token_SCONST && !strings.HasPrefix(t.text, "$"):
			inner, err := tokens(t.inside())
			if err != nil || concerned(inner, names) {
				return true
			}
		}
	}
	return false
}

// mustMean parses the text that was written and compares it with the tree that was meant.
func mustMean(sql string, meant *pg.ParseResult) error {
	got, err := parseNewer(sql)
	if err != nil {
		return fmt.Errorf("the parser refuses what came out: %w", err)
	}
	forgetLocations(got.ProtoReflect())
	forgetLocations(meant.ProtoReflect())
	if !proto.Equal(got, meant) {
		return errors.New("what came out means something else to the parser")
	}
	return nil
}

var locations = []protoreflect.Name{"location", "name_location", "stmt_location", "stmt_len"}

func forgetLocations(node protoreflect.Message) {
	for _, name := range locations {
		if field := node.Descriptor().Fields().ByName(name); field != nil {
			node.Clear(field)
		}
	}
	_ = each(node, func(inner protoreflect.Message) error { forgetLocations(inner); return nil })
}

const headMax = 60

// head is what a person recognizes a statement by.
func head(sql string) string {
	words := strings.Fields(sql)
	text := strings.Join(words[:min(len(words), headMax)], " ")
	if runes := []rune(text); len(runes) > headMax {
		return string(runes[:headMax]) + "…"
	}
	return text
}

// catalogs are schemas that every server has.
func catalog(schema string) bool {
	return slices.Contains([]string{"", "pg_catalog", "information_schema"}, schema)
}
