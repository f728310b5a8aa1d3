package definition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Error is a definition that cannot be used: where, and what is wrong there.
type Error struct {
	Path    string
	Line    int // 0 = the file as a whole
	Message string
}

// Error is one line that editors can jump to.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Path, e.Message)
	}
	return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Message)
}

// Load reads a definition for `run` and for every command that works in its own process: relative paths are resolved
// against the file's directory, passwords in URIs are handed back apart (nil when there are none), the id is derived from the name and both
// endpoints, and a failed precheck fails the migration unless the file says otherwise. The error is an *Error.
func Load(path string) (migration.Spec, *migration.Secrets, error) {
	r, err := read(path)
	if err != nil {
		return migration.Spec{}, nil, err
	}
	directory, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return migration.Spec{}, nil, &Error{Path: path, Message: err.Error()}
	}
	resolve(&r.spec.Source, directory)
	resolve(&r.spec.Target, directory)
	if r.spec.Precheck.OnFailure == "" {
		r.spec.Precheck.OnFailure = "fail"
	}
	r.spec.Defaults()
	r.spec.ID = migration.DerivedID(r.spec.Name, r.spec.Source, r.spec.Target)
	if err := r.check(migration.Spec.Secretless); err != nil {
		return migration.Spec{}, nil, err
	}
	return r.spec, r.secrets(), nil
}

// LoadForStart reads a definition for `start`, whose worker is elsewhere: passwords in URIs and files are refused, the
// id is fresh, and a failed precheck waits for a person unless the file says otherwise. The error is an *Error.
func LoadForStart(path string) (migration.Spec, error) {
	r, err := read(path)
	if err != nil {
		return migration.Spec{}, err
	}
	for _, side := range []migration.Side{migration.Source, migration.Target} {
		if *r.typed(side) != (migration.Typed{}) {
			return migration.Spec{}, r.fail(string(side)+".uri",
				"key %q holds a password, which Temporal would store: use passwordFrom.env or ssl.keyPasswordFrom.env, or a connection", string(side)+".uri")
		}
	}
	r.spec.Defaults()
	r.spec.ID = migration.RandomID(r.spec.Name)
	if err := r.check(migration.Spec.Portable); err != nil {
		return migration.Spec{}, err
	}
	return r.spec, nil
}

// sizeMax keeps a wrong path, such as that of a dump, from being read into memory.
const sizeMax = 1 << 20

func read(path string) (*reader, error) {
	r, document, err := open(path)
	if err == nil {
		err = r.definition(document)
	}
	return r, err
}

// open parses a file of one document.
func open(path string) (*reader, *yaml.Node, error) {
	r := &reader{path: path, lines: map[string]int{}}
	content, err := readLimited(path)
	if err != nil {
		var pathError *os.PathError
		if errors.As(err, &pathError) {
			err = pathError.Err
		}
		return nil, nil, &Error{Path: path, Message: err.Error()}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document, second yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil, &Error{Path: path, Message: "the file is empty"}
	} else if err != nil {
		return nil, nil, &Error{Path: path, Message: err.Error()}
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, nil, &Error{Path: path, Line: second.Line, Message: "want one document in a file"}
	}
	return r, document.Content[0], nil
}

func readLimited(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, sizeMax+1))
	if err == nil && len(content) > sizeMax {
		err = fmt.Errorf("larger than %d bytes, so not a definition", sizeMax)
	}
	return content, err
}

// check runs what the spec knows about itself, and gives its errors their lines.
func (r *reader) check(travels func(migration.Spec) error) error {
	err := r.spec.Validate()
	if err == nil {
		err = travels(r.spec)
	}
	var known *migration.DefinitionError
	if errors.As(err, &known) {
		return r.fail(known.Key, "key %q: %s", known.Key, known.Problem)
	}
	if err != nil {
		return &Error{Path: r.path, Message: err.Error()}
	}
	if r.spec.Source.Address() == r.spec.Target.Address() {
		return r.fail("target", "source and target are the same database %s", r.spec.Target.Address())
	}
	return nil
}
