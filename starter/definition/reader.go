package definition

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pgdts/pgdts/workflows/migration"
)

// reader walks the document, fills the spec, and remembers the line of every key for the checks that come after.
type reader struct {
	path           string
	lines          map[string]int
	spec           migration.Spec
	source, target migration.Typed
}

func (r *reader) typed(side migration.Side) *migration.Typed {
	if side == migration.Source {
		return &r.source
	}
	return &r.target
}

// secrets are the passwords that were typed, nil when there are none.
func (r *reader) secrets() *migration.Secrets {
	typed := map[migration.Side]migration.Typed{}
	for _, side := range []migration.Side{migration.Source, migration.Target} {
		if *r.typed(side) != (migration.Typed{}) {
			typed[side] = *r.typed(side)
		}
	}
	if len(typed) == 0 {
		return nil
	}
	return &migration.Secrets{Typed: typed}
}

// field reads the value of one key.
type field func(key string, value *yaml.Node) error

// mapping reads the keys of a mapping in the order of the file. An empty value counts as left out.
func (r *reader) mapping(prefix string, node *yaml.Node, fields map[string]field) error {
	node = resolved(node)
	if node.Kind != yaml.MappingNode {
		return r.wrong(prefix, node, "keys and values")
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], resolved(node.Content[i+1])
		key := joined(prefix, name.Value)
		if _, twice := r.lines[key]; twice {
			return r.at(name, "key %q is given twice, first in line %d", key, r.lines[key])
		}
		read, known := fields[name.Value]
		if !known {
			return r.unknown(prefix, name, fields)
		}
		r.lines[key] = name.Line
		if value.Tag == "!!null" {
			continue
		}
		if err := read(key, value); err != nil {
			return err
		}
	}
	return nil
}

func resolved(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func joined(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

func (r *reader) unknown(prefix string, name *yaml.Node, fields map[string]field) error {
	message := fmt.Sprintf("key %q is not known", joined(prefix, name.Value))
	if near := nearest(name.Value, fields); near != "" {
		message += fmt.Sprintf("; did you mean %q?", joined(prefix, near))
	}
	return &Error{Path: r.path, Line: name.Line, Message: message}
}

// at is an error at a node.
func (r *reader) at(node *yaml.Node, format string, args ...any) error {
	return &Error{Path: r.path, Line: node.Line, Message: fmt.Sprintf(format, args...)}
}

// fail is an error at a key, or at the nearest key above it that the file has.
func (r *reader) fail(key, format string, args ...any) error {
	line, found := r.lines[key]
	for above := key; !found && strings.Contains(above, "."); {
		above = above[:strings.LastIndexByte(above, '.')]
		line, found = r.lines[above]
	}
	return &Error{Path: r.path, Line: line, Message: fmt.Sprintf(format, args...)}
}

// wrong names the type that was wanted. It quotes no value: a value may be a secret in the wrong place.
func (r *reader) wrong(key string, node *yaml.Node, want string) error {
	if key == "" {
		return r.at(node, "the file is %s: want %s", kindName(node), want)
	}
	return r.at(node, "key %q is %s: want %s", key, kindName(node), want)
}

func kindName(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "a mapping"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	case node.Tag == "!!int" || node.Tag == "!!float":
		return "a number"
	case node.Tag == "!!bool":
		return "true or false"
	case node.Tag == "!!timestamp":
		return "a time"
	}
	return "text"
}

// text reads text. Numbers and the like are refused, since YAML has changed them already: 010 is 8, "no" is false.
func (r *reader) text(to *string) field {
	return func(key string, value *yaml.Node) error {
		if value.Kind != yaml.ScalarNode || value.Tag != "!!str" {
			return r.wrong(key, value, "text (in quotes when it looks like something else)")
		}
		*to = value.Value
		return nil
	}
}

// word reads text into a named string type.
func word[T ~string](r *reader, to *T) field {
	return func(key string, value *yaml.Node) error {
		var text string
		err := r.text(&text)(key, value)
		*to = T(text)
		return err
	}
}

func number[T ~int | ~int64](r *reader, to *T) field {
	return func(key string, value *yaml.Node) error {
		var parsed T
		if value.Kind != yaml.ScalarNode || value.Tag != "!!int" || value.Decode(&parsed) != nil {
			return r.wrong(key, value, "a whole number")
		}
		*to = parsed
		return nil
	}
}

// decimal reads a number with or without a fraction.
func (r *reader) decimal(to *float64) field {
	return func(key string, value *yaml.Node) error {
		var parsed float64
		if value.Kind != yaml.ScalarNode || value.Tag != "!!int" && value.Tag != "!!float" || value.Decode(&parsed) != nil {
			return r.wrong(key, value, "a number")
		}
		*to = parsed
		return nil
	}
}

func (r *reader) duration(to *migration.Duration) field {
	return func(key string, value *yaml.Node) error {
		if value.Kind != yaml.ScalarNode || to.UnmarshalText([]byte(value.Value)) != nil {
			return r.at(value, "key %q: want a number and a unit, such as 90s, 10m or 12h", key)
		}
		if *to == 0 { // would be taken for a key that is not there
			return r.at(value, "key %q: 0 is no time; leave the key out for its default", key)
		}
		return nil
	}
}

func (r *reader) texts(to *[]string) field {
	return func(key string, value *yaml.Node) error {
		if value.Kind != yaml.SequenceNode {
			return r.wrong(key, value, "a list of text")
		}
		for _, entry := range value.Content {
			var one string
			if err := r.text(&one)(key, resolved(entry)); err != nil {
				return err
			}
			*to = append(*to, one)
		}
		return nil
	}
}

// words reads a list of text of a kind.
func words[T ~string](r *reader, to *[]T) field {
	return func(key string, value *yaml.Node) error {
		var texts []string
		err := r.texts(&texts)(key, value)
		for _, text := range texts {
			*to = append(*to, T(text))
		}
		return err
	}
}

// listOf reads a list of mappings; the key of each has its place, as in objects[0].where.
func listOf[T any](r *reader, to *[]T, fields func(*T) map[string]field) field {
	return func(key string, value *yaml.Node) error {
		if value.Kind != yaml.SequenceNode {
			return r.wrong(key, value, "a list")
		}
		for i, entry := range value.Content {
			var one T
			place := fmt.Sprintf("%s[%d]", key, i)
			r.lines[place] = entry.Line
			if err := r.mapping(place, entry, fields(&one)); err != nil {
				return err
			}
			*to = append(*to, one)
		}
		return nil
	}
}

// flag reads true or false.
func (r *reader) flag(to *bool) field {
	return func(key string, value *yaml.Node) error {
		if value.Kind != yaml.ScalarNode || value.Tag != "!!bool" || value.Decode(to) != nil {
			return r.wrong(key, value, "true or false")
		}
		return nil
	}
}

func (r *reader) textMap(to *map[string]string) field {
	return func(key string, value *yaml.Node) error {
		if value.Kind != yaml.MappingNode {
			return r.wrong(key, value, "names with text")
		}
		*to = map[string]string{}
		for i := 0; i+1 < len(value.Content); i += 2 {
			var one string
			name := value.Content[i].Value
			if err := r.text(&one)(joined(key, name), resolved(value.Content[i+1])); err != nil {
				return err
			}
			(*to)[name] = one
		}
		return nil
	}
}

func (r *reader) keys(fields map[string]field) field {
	return func(key string, value *yaml.Node) error { return r.mapping(key, value, fields) }
}

// unsupported refuses a key of the definition's language that this version does not carry out.
func (r *reader) unsupported(key string, value *yaml.Node) error {
	return &Error{Path: r.path, Line: r.lines[key], Message: fmt.Sprintf("key %q is not supported by this version", key)}
}

// only accepts the value that says what this version does anyway, and refuses the others by name.
func (r *reader) only(accepted string, others ...string) field {
	return func(key string, value *yaml.Node) error {
		if value.Kind != yaml.ScalarNode {
			return r.wrong(key, value, accepted)
		}
		if value.Value == accepted {
			return nil
		}
		for _, other := range others {
			if value.Value == other {
				return r.at(value, "key %q: %s is not supported by this version", key, other)
			}
		}
		return r.at(value, "key %q: want %s", key, strings.Join(append([]string{accepted}, others...), " or "))
	}
}
