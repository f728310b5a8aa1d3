package mapping

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/pgdts/pgdts/workflows/migration"
)

// glob is one part of a pattern: a name in which * stands for any characters and ? for one. What is in double quotes
// stands for itself, and "" in them for one quote.
type glob struct {
	signs    []sign
	exact    string // the name, when there is no wildcard
	head     string // what every match begins with
	sizeMin  int    // bytes of the shortest match
	literals int
	stars    int
	marks    int
}

// sign is one character of a glob. A wildcard knows the number of its capture.
type sign struct {
	char    rune
	wild    rune // '*', '?', or 0
	capture int
}

func (g glob) wild() bool { return g.stars+g.marks > 0 }

// match reports whether a name fits, and what each wildcard stands for: a star takes as little as it can.
func (g glob) match(name string) ([]string, bool) {
	if !g.wild() {
		return nil, name == g.exact
	}
	if len(name) < g.sizeMin || !strings.HasPrefix(name, g.head) {
		return nil, false
	}
	captures := make([]string, g.stars+g.marks)
	at, from, star, tried := 0, 0, -1, 0 // from: where the last star began; tried: where it ends now
	for i := 0; i < len(name) || at < len(g.signs); {
		if at < len(g.signs) && g.signs[at].wild == '*' {
			captures[g.signs[at].capture] = ""
			star, from, tried, at = at, i, i, at+1
			continue
		}
		char, size := utf8.DecodeRuneInString(name[i:])
		switch {
		case size > 0 && at < len(g.signs) && g.signs[at].wild == '?':
			captures[g.signs[at].capture] = name[i : i+size]
			i, at = i+size, at+1
		case size > 0 && at < len(g.signs) && g.signs[at].char == char:
			i, at = i+size, at+1
		case star >= 0 && tried < len(name):
			_, size = utf8.DecodeRuneInString(name[tried:])
			tried += size
			captures[g.signs[star].capture] = name[from:tried]
			i, at = tried, star+1
		default:
			return nil, false
		}
	}
	return captures, true
}

func newGlob(signs []sign) glob {
	g := glob{signs: signs}
	var text strings.Builder
	for i, s := range signs {
		switch s.wild {
		case '*':
			g.signs[i].capture = g.stars + g.marks
			g.stars++
		case '?':
			g.signs[i].capture = g.stars + g.marks
			g.marks++
			g.sizeMin++
		default:
			g.literals++
			g.sizeMin += utf8.RuneLen(s.char)
			text.WriteRune(s.char)
		}
		if !g.wild() {
			g.head = text.String()
		}
	}
	g.exact = g.head
	return g
}

var errQuote = errors.New("a double quote is not closed")

// scan reads names in which double quotes take all meaning from what is between them, and calls with what a character
// means: bare characters may be signs.
func scan(text string, each func(char rune, bare bool) error) error {
	quoted := false
	chars := []rune(text)
	for i := 0; i < len(chars); i++ {
		switch {
		case chars[i] != '"':
			if err := each(chars[i], !quoted); err != nil {
				return err
			}
		case quoted && i+1 < len(chars) && chars[i+1] == '"':
			i++
			if err := each('"', false); err != nil {
				return err
			}
		default:
			quoted = !quoted
		}
	}
	if quoted {
		return errQuote
	}
	return nil
}

// parseGlob reads a pattern of one name. A dot in it is a character like others.
func parseGlob(text string) (glob, error) {
	parts, err := parseGlobs(text, false)
	if err != nil {
		return glob{}, err
	}
	return parts[0], nil
}

func parseGlobs(text string, split bool) ([]glob, error) {
	parts := [][]sign{nil}
	err := scan(text, func(char rune, bare bool) error {
		last := len(parts) - 1
		switch {
		case bare && split && char == '.':
			parts = append(parts, nil)
		case bare && (char == '*' || char == '?'):
			parts[last] = append(parts[last], sign{wild: char})
		default:
			parts[last] = append(parts[last], sign{char: char})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	globs := make([]glob, len(parts))
	for i, part := range parts {
		if len(part) == 0 {
			return nil, errors.New("a name is empty")
		}
		globs[i] = newGlob(part)
	}
	return globs, nil
}

// pattern means relations: those of a schema, or with schema nil those of any schema that a name fits.
type pattern struct {
	text   string
	schema *glob
	name   glob
}

// parsePattern reads schema.name, or name alone.
func parsePattern(text string) (pattern, error) {
	globs, err := parseGlobs(text, true)
	switch {
	case err != nil:
		return pattern{}, err
	case len(globs) == 1:
		return pattern{text: text, name: globs[0]}, nil
	case len(globs) == 2:
		return pattern{text: text, schema: &globs[0], name: globs[1]}, nil
	}
	return pattern{}, errors.New("more than one dot: put a name that holds a dot in double quotes")
}

// match reports whether a relation fits, and what each wildcard stands for, from left to right.
func (p pattern) match(name migration.TableName) ([]string, bool) {
	var captures []string
	if p.schema != nil {
		in, ok := p.schema.match(name.Schema)
		if !ok {
			return nil, false
		}
		captures = in
	}
	of, ok := p.name.match(name.Name)
	if !ok {
		return nil, false
	}
	return append(captures, of...), true
}

// exact is the one relation that the pattern means, unless it has wildcards.
func (p pattern) exact() (migration.TableName, bool) {
	if p.schema == nil || p.schema.wild() || p.name.wild() {
		return migration.TableName{}, false
	}
	return migration.TableName{Schema: p.schema.exact, Name: p.name.exact}, true
}

// weight orders patterns by how much they say: more characters that stand for themselves, then fewer stars, then fewer
// question marks, then the one that comes later in the definition.
type weight struct{ literals, stars, marks, place int }

func (w weight) beats(other weight) bool {
	switch {
	case w.literals != other.literals:
		return w.literals > other.literals
	case w.stars != other.stars:
		return w.stars < other.stars
	case w.marks != other.marks:
		return w.marks < other.marks
	}
	return w.place > other.place
}

func (p pattern) weight(place int) weight {
	w := weight{p.name.literals, p.name.stars, p.name.marks, place}
	if p.schema != nil {
		w.literals, w.stars, w.marks = w.literals+p.schema.literals, w.stars+p.schema.stars, w.marks+p.schema.marks
	}
	return w
}
