package mapping

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// template is a name to be given, or schema.name, with $1, $2 … for what the wildcards of a pattern stand for.
type template struct{ parts [][]piece }

// piece is text, or a capture counted from 1.
type piece struct {
	text    string
	capture int
}

// parseTemplate reads a template for a pattern with so many wildcards. $$ is one dollar sign, and so is a dollar that no
// digit follows.
func parseTemplate(text string, split bool, wildcards int) (template, error) {
	parts := [][]rune{nil}
	err := scan(text, func(char rune, bare bool) error {
		if bare && split && char == '.' {
			parts = append(parts, nil)
			return nil
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], char)
		return nil
	})
	if err != nil {
		return template{}, err
	}
	if len(parts) > 2 {
		return template{}, errors.New("more than one dot: put a name that holds a dot in double quotes")
	}
	var t template
	for _, part := range parts {
		pieces, err := cutPieces(string(part), wildcards)
		if err != nil {
			return template{}, err
		}
		t.parts = append(t.parts, pieces)
	}
	return t, nil
}

func cutPieces(text string, wildcards int) ([]piece, error) {
	if text == "" {
		return nil, errors.New("a name is empty")
	}
	var pieces []piece
	for text != "" {
		before, after, found := strings.Cut(text, "$")
		pieces = append(pieces, piece{text: before})
		if !found {
			break
		}
		digits := len(after) - len(strings.TrimLeft(after, "0123456789"))
		switch {
		case digits > 0:
			n, err := strconv.Atoi(after[:digits])
			if err != nil || n < 1 || n > wildcards {
				return nil, fmt.Errorf("$%s stands for nothing: the pattern has %d wildcards", after[:digits], wildcards)
			}
			pieces = append(pieces, piece{capture: n})
			after = after[digits:]
		case strings.HasPrefix(after, "$"):
			pieces = append(pieces, piece{text: "$"})
			after = after[1:]
		default:
			pieces = append(pieces, piece{text: "$"})
		}
		text = after
	}
	return pieces, nil
}

// expand gives the parts their names.
func (t template) expand(captures []string) []string {
	names := make([]string, len(t.parts))
	for i, pieces := range t.parts {
		for _, p := range pieces {
			if p.capture > 0 {
				names[i] += captures[p.capture-1]
			} else {
				names[i] += p.text
			}
		}
	}
	return names
}
