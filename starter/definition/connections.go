package definition

import (
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/pgdts/pgdts/workflows/migration"
)

// LoadConnections reads the connections that a worker is to know by name. It is as strict as a definition; relative paths,
// of programs too, are resolved against the file's directory. A file that others may change is refused, since it names
// programs to run, and one with passwords in it that others may read. The error is an *Error.
func LoadConnections(path string) (map[string]migration.Connection, error) {
	r, document, err := open(path)
	if err != nil {
		return nil, err
	}
	connections := map[string]migration.Connection{}
	if err := r.mapping("", document, map[string]field{"connections": r.connections(connections)}); err != nil {
		return nil, err
	}
	if len(connections) == 0 {
		return nil, &Error{Path: path, Message: "key \"connections\" is missing: want names with uri, or host and database"}
	}
	if err := guarded(path, connections); err != nil {
		return nil, err
	}
	directory, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, &Error{Path: path, Message: err.Error()}
	}
	for name, connection := range connections {
		resolve(&connection.Endpoint, directory)
		connections[name] = connection
	}
	return connections, nil
}

func (r *reader) connections(to map[string]migration.Connection) field {
	return func(key string, value *yaml.Node) error {
		if value.Kind != yaml.MappingNode {
			return r.wrong(key, value, "names with connections")
		}
		for i := 0; i+1 < len(value.Content); i += 2 {
			name, place := value.Content[i], joined(key, value.Content[i].Value)
			if _, twice := r.lines[place]; twice {
				return r.at(name, "key %q is given twice, first in line %d", place, r.lines[place])
			}
			if !migration.ValidConnectionName(name.Value) {
				return r.at(name, "key %q: want letters, digits, dots, dashes or underscores in the name of a connection", place)
			}
			r.lines[place] = name.Line
			var c migration.Connection
			if err := r.endpoint(&c.Endpoint, &c.Typed, true)(place, resolved(value.Content[i+1])); err != nil {
				return err
			}
			if c.Endpoint.URI == "" && c.Endpoint.Host == "" && c.Endpoint.Database == "" {
				return r.fail(place, "key %q is empty: want uri, or host and database", place)
			}
			to[name.Value] = c
		}
		return nil
	}
}

const (
	writableByOthers os.FileMode = 0o002
	readableByOthers os.FileMode = 0o004
)

func guarded(path string, connections map[string]migration.Connection) error {
	info, err := os.Stat(path)
	if err != nil {
		return &Error{Path: path, Message: err.Error()}
	}
	secret := false
	for _, connection := range connections {
		secret = secret || connection.Typed != (migration.Typed{})
	}
	switch mode := info.Mode().Perm(); {
	case mode&writableByOthers != 0:
		return &Error{Path: path, Message: "others may write this file, and so choose programs that the worker runs: chmod o-w " + path}
	case secret && mode&readableByOthers != 0:
		return &Error{Path: path, Message: "others may read this file, and passwords stand in it: chmod o-r " + path + ", or use passwordFrom"}
	}
	return nil
}
