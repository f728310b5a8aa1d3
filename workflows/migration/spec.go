package migration

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Spec is what was asked: the resolved definition, and the input of the workflow. It holds references to secrets,
// never secrets.
type Spec struct {
	ID     ID       `json:"id"`
	Name   string   `json:"name"`
	Source Endpoint `json:"source"`
	Target Endpoint `json:"target"`

	Types          []Type         `json:"types"`
	Objects        []Object       `json:"objects,omitempty"`        // empty = every schema of a user
	EverythingElse EverythingElse `json:"everythingElse,omitempty"` // what no object means
	Operations     Operations     `json:"operations,omitempty"`     // applied in incremental; empty = all
	Names          Naming         `json:"names"`
	Conflict       Conflict       `json:"conflict"`
	Identity       IdentityPolicy `json:"identity"`
	Transform      []Transform    `json:"transform,omitempty"`
	Incremental    Incremental    `json:"incremental,omitzero"`

	WithoutKey WithoutKey        `json:"withoutKey"`
	Retry      RetryWindows      `json:"retry"`
	Parallel   Parallel          `json:"parallel"`
	Precheck   PrecheckPolicy    `json:"precheck"`
	Schema     SchemaPolicy      `json:"schema"`
	OnFailure  OnFailure         `json:"onFailure"`
	OnConflict OnConflict        `json:"onConflict"`
	Cutover    Cutover           `json:"cutover"`
	Tags       map[string]string `json:"tags,omitempty"`
	TaskQueue  string            `json:"taskQueue,omitempty"`
	Throttle   Throttle          `json:"throttle,omitzero"`
	Class      Class             `json:"class,omitempty"`
	DDL        DDLPolicy         `json:"ddl,omitempty"`
}

// Endpoint is one database. Either a URI or fields or the name of a connection that the worker knows.
type Endpoint struct {
	// URI without a password: postgres://user@host:port/database?parameters. Several hosts are allowed.
	URI string `json:"uri,omitempty"`
	// Connection is the name of a connection that the worker knows; then nothing else is set.
	Connection string `json:"connection,omitempty"`

	Host     string `json:"host,omitempty"`
	Port     int    `json:"port,omitempty"` // 0 = libpq's default
	Database string `json:"database,omitempty"`
	User     string `json:"user,omitempty"`
	// PasswordFrom is where the worker finds the password; nil = ~/.pgpass, PGPASSWORD, or none needed.
	PasswordFrom *SecretRef `json:"passwordFrom,omitempty"`
	SSL          *SSL       `json:"ssl,omitempty"`
}

// SecretRef names an environment variable or a file of the worker, which holds the secret, or a command that prints it.
type SecretRef struct {
	Env  string `json:"env,omitempty"`
	File string `json:"file,omitempty"`
	// Command is a program and its arguments, without a shell. Only a worker's own connections may have one.
	Command []string `json:"command,omitempty"`
}

// SSL is libpq's sslmode with the files it needs.
type SSL struct {
	Mode string `json:"mode,omitempty"` // disable allow prefer require verify-ca verify-full
	CA   string `json:"ca,omitempty"`
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
	// KeyPasswordFrom is where the password of an encrypted key is found.
	KeyPasswordFrom *SecretRef `json:"keyPasswordFrom,omitempty"`
}

// Address is user@host:port/database as far as the definition says it: the identity of an endpoint, for ids and
// messages. It holds no secret.
func (e Endpoint) Address() string {
	if e.Connection != "" {
		return "connection:" + e.Connection
	}
	user, host, database := e.parts()
	return user + "@" + host + "/" + database
}

// DatabaseName is the database that the definition names, or "". Of a named connection only its worker knows it, so the
// connection's name stands for it.
func (e Endpoint) DatabaseName() string {
	if e.Connection != "" {
		return e.Connection
	}
	_, _, database := e.parts()
	return database
}

// parts reads the identity from the fields, or from the URI, whose parameters win over its head as they do in libpq.
func (e Endpoint) parts() (user, host, database string) {
	user, host, database = e.User, e.Host, e.Database
	port := ""
	if e.Port != 0 {
		port = fmt.Sprint(e.Port)
	}
	if parsed, err := url.Parse(e.URI); err == nil && e.URI != "" {
		user, host, database = parsed.User.Username(), parsed.Host, strings.TrimPrefix(parsed.Path, "/")
		query := parsed.Query()
		for _, override := range []struct {
			key  string
			part *string
		}{{"user", &user}, {"host", &host}, {"dbname", &database}} {
			if query.Has(override.key) {
				*override.part = query.Get(override.key)
			}
		}
		port = query.Get("port")
	}
	if port != "" {
		host += ":" + port
	}
	return user, host, database
}

// Type is one of the three kinds of work.
type Type string

// Schema creates objects and copies nothing; full copies once; incremental also follows the changes.
const (
	TypeSchema      Type = "schema"
	TypeFull        Type = "full"
	TypeIncremental Type = "incremental"
)

// WithoutKey says what happens to tables whose rows no key tells apart.
type WithoutKey string

// The default is insert-only.
const (
	InsertOnly   WithoutKey = "insert-only" // inserts stream; copied again under the fence when anything else happened
	FullIdentity WithoutKey = "full"        // REPLICA IDENTITY FULL is set, recorded, and restored at the end
	Refuse       WithoutKey = "refuse"      // the precheck fails
)

// RetryWindows is how long an outage may last, counted from its start, before the migration fails.
type RetryWindows struct {
	Connection Duration `json:"connection"` // 10m to 1440m; default 720m
	Other      Duration `json:"other"`      // 1m to 1440m, smaller than Connection; default 10m
}

// DefinitionError says which key of a definition cannot work, and what it takes.
type DefinitionError struct{ Key, Problem string }

// Error is the key and the problem.
func (e *DefinitionError) Error() string { return e.Key + " " + e.Problem }

func keyErrorf(key, format string, args ...any) error {
	return &DefinitionError{Key: key, Problem: fmt.Sprintf(format, args...)}
}

// Validate refuses windows outside their bounds.
func (w RetryWindows) Validate() error {
	const day = 1440 * time.Minute
	if c := w.Connection.D(); c < 10*time.Minute || c > day {
		return keyErrorf("retry.connection", "%s: want 10m to 1440m", w.Connection)
	}
	if o := w.Other.D(); o < time.Minute || o > day {
		return keyErrorf("retry.other", "%s: want 1m to 1440m", w.Other)
	}
	if w.Other >= w.Connection {
		return keyErrorf("retry.other", "%s: want less than retry.connection %s", w.Other, w.Connection)
	}
	return nil
}

// Parallel is how many tables or indexes are worked on at once. 0 = by the number of cores.
type Parallel struct {
	Copy  int `json:"copy"`  // 1 to 64
	Index int `json:"index"` // 1 to 64
}

// PrecheckPolicy says which alerts do not block and what a failed precheck does.
type PrecheckPolicy struct {
	Ignore    []string `json:"ignore,omitempty"`
	OnFailure string   `json:"onFailure"` // wait | fail
}

// SchemaPolicy says how objects are created.
type SchemaPolicy struct {
	Owner           string `json:"owner"` // keep | target
	Grants          bool   `json:"grants"`
	OnObjectFailure string `json:"onObjectFailure"` // wait | skip | fail
}

// OnFailure says what becomes of the slot when the migration fails.
type OnFailure string

// A kept slot holds WAL on the source until somebody releases the migration.
const (
	DropSlot      OnFailure = "drop-slot"
	KeepSlot      OnFailure = "keep-slot"
	WaitOnFailure OnFailure = "wait"
)

// OnConflict says what a row that is not as it must be does.
type OnConflict string

// The default is source-wins.
const (
	SourceWins     OnConflict = "source-wins"
	StopOnConflict OnConflict = "stop"
)

// DDLPolicy says what becomes of a change of a table on the source while its changes are followed.
type DDLPolicy string

// The default is ask.
const (
	DDLAsk       DDLPolicy = "ask"        // the stream stops before the first change of the new shape
	DDLApplySafe DDLPolicy = "apply-safe" // what only adds is made on the target as well; the rest asks
)

// Cutover says how writes move to the target.
type Cutover struct {
	Mode           string   `json:"mode"`           // manual | auto
	SteadyFor      Duration `json:"steadyFor"`      // how long latency must have been low
	Fence          string   `json:"fence"`          // lock | read-only | none
	After          string   `json:"after"`          // block | none
	Verify         string   `json:"verify"`         // auto | hash | counts | none
	SequenceMargin int64    `json:"sequenceMargin"` // added to every sequence
	Deadline       Duration `json:"deadline"`       // fence to opening; then the fence is lifted
}

// Defaults fills what a definition leaves out, as contract: every field's zero has one meaning.
func (s *Spec) Defaults() {
	if s.Name == "" {
		s.Name = defaultName(s.Source.DatabaseName(), s.Target.DatabaseName())
	}
	if len(s.Objects) > 0 {
		fill(&s.EverythingElse, ExcludeElse)
	}
	if len(s.Types) == 0 {
		s.Types = []Type{TypeSchema, TypeFull, TypeIncremental}
	}
	fill(&s.EverythingElse, IncludeElse)
	fill(&s.Names.Case, CaseSource)
	fill(&s.Conflict, ConflictReport)
	fill(&s.Identity, IdentityAsIs)
	fill(&s.WithoutKey, InsertOnly)
	fill(&s.Retry.Connection, Duration(720*time.Minute))
	fill(&s.Retry.Other, Duration(10*time.Minute))
	fill(&s.Precheck.OnFailure, "wait")
	fill(&s.Schema.Owner, "target")
	fill(&s.Schema.OnObjectFailure, "wait")
	fill(&s.OnFailure, DropSlot)
	fill(&s.OnConflict, SourceWins)
	fill(&s.DDL, DDLAsk)
	fill(&s.Cutover.Mode, "manual")
	fill(&s.Cutover.SteadyFor, Duration(5*time.Second))
	fill(&s.Cutover.Fence, "lock")
	fill(&s.Cutover.After, "block")
	fill(&s.Cutover.Verify, "auto")
	fill(&s.Cutover.Deadline, Duration(time.Minute))
	s.applyClass()
}

// nameMax bounds a name, in bytes.
const nameMax = 100

// defaultName is of both databases, without what a name may not hold. The id tells apart what is cut off.
func defaultName(source, target string) string {
	name := strings.NewReplacer("/", "-", " ", "-", "\t", "-", "\n", "-").Replace(source + "-to-" + target)
	return strings.ToValidUTF8(name[:min(len(name), nameMax)], "")
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate refuses what cannot work. The error is a *DefinitionError, but for a malformed id.
func (s Spec) Validate() error {
	if _, err := ParseID(string(s.ID)); err != nil {
		return err
	}
	if s.Name == "" || strings.ContainsAny(s.Name, "/ \t\n") || len(s.Name) > nameMax {
		return keyErrorf("name", "%q: want 1 to 100 characters without space or slash", s.Name)
	}
	if err := s.Retry.Validate(); err != nil {
		return err
	}
	for _, field := range []struct {
		key, value string
		takes      []string
	}{
		{"everythingElse", string(s.EverythingElse), []string{"include", "exclude"}},
		{"names.case", string(s.Names.Case), []string{"source", "lower", "upper", "default"}},
		{"conflict", string(s.Conflict), []string{"report", "ignore"}},
		{"identity", string(s.Identity), []string{"as-is", "set-full"}},
		{"withoutKey", string(s.WithoutKey), []string{"insert-only", "full", "refuse"}},
		{"precheck.onFailure", s.Precheck.OnFailure, []string{"wait", "fail"}},
		{"schema.owner", s.Schema.Owner, []string{"target", "keep"}},
		{"schema.onObjectFailure", s.Schema.OnObjectFailure, []string{"wait", "skip", "fail"}},
		{"onFailure", string(s.OnFailure), []string{"drop-slot", "keep-slot", "wait"}},
		{"onConflict", string(s.OnConflict), []string{"source-wins", "stop"}},
		{"ddl", string(s.DDL), []string{"ask", "apply-safe"}},
		{"cutover.mode", s.Cutover.Mode, []string{"manual", "auto"}},
		{"cutover.fence", s.Cutover.Fence, []string{"lock", "read-only", "none"}},
		{"cutover.after", s.Cutover.After, []string{"block", "none"}},
		{"cutover.verify", s.Cutover.Verify, []string{"auto", "hash", "counts", "none"}},
	} {
		if !slices.Contains(field.takes, field.value) {
			return keyErrorf(field.key, "%q: want %s", field.value, strings.Join(field.takes, " or "))
		}
	}
	for _, side := range []struct {
		side Side
		at   Endpoint
	}{{Source, s.Source}, {Target, s.Target}} {
		if err := side.at.validate(side.side); err != nil {
			return err
		}
	}
	if err := s.validateObjects(); err != nil {
		return err
	}
	return s.validateNumbers()
}

func (s Spec) validateNumbers() error {
	switch {
	case s.Parallel.Copy < 0 || s.Parallel.Copy > 64:
		return keyErrorf("parallel.copy", "%d: want 1 to 64", s.Parallel.Copy)
	case s.Parallel.Index < 0 || s.Parallel.Index > 64:
		return keyErrorf("parallel.index", "%d: want 1 to 64", s.Parallel.Index)
	case s.Cutover.Deadline.D() < time.Second || s.Cutover.Deadline.D() > time.Hour:
		return keyErrorf("cutover.deadline", "%s: want 1s to 1h", s.Cutover.Deadline)
	case s.Cutover.SteadyFor <= 0 || s.Cutover.SteadyFor.D() > time.Hour:
		return keyErrorf("cutover.steadyFor", "%s: want more than 0s, and 1h at most", s.Cutover.SteadyFor)
	case s.Cutover.SequenceMargin < 0:
		return keyErrorf("cutover.sequenceMargin", "%d: want 0 or more", s.Cutover.SequenceMargin)
	}
	if _, known := s.Class.Preset(); s.Class != "" && !known {
		return keyErrorf("class", "%q: want small or medium or large or xlarge or 2xlarge", s.Class)
	}
	return s.Throttle.validate(s.Has)
}
