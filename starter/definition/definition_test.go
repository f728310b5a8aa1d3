package definition_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/starter/definition"
	"github.com/pgdts/pgdts/workflows/migration"
)

// TestWrongDefinitionsAreRefusedAtTheirLine holds each file of testdata/bad against the error in its first line.
func TestWrongDefinitionsAreRefusedAtTheirLine(t *testing.T) {
	eachWanted(t, "testdata/bad", func(path string) error {
		_, _, err := definition.Load(path)
		return err
	})
}

// TestStartRefusesWhatMustNotTravel does the same for what only `start` refuses; `run` takes these files.
func TestStartRefusesWhatMustNotTravel(t *testing.T) {
	eachWanted(t, "testdata/start", func(path string) error {
		_, _, err := definition.Load(path)
		require.NoError(t, err, "run takes it")
		_, err = definition.LoadForStart(path)
		return err
	})
}

var wanted = regexp.MustCompile(`^# want (\d+): (.*)$`)

func eachWanted(t *testing.T, directory string, load func(path string) error) {
	paths, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			match := wanted.FindStringSubmatch(firstLine(t, path))
			require.NotNil(t, match, "first line says what is wanted")
			line, _ := strconv.Atoi(match[1])
			var refused *definition.Error
			err := load(path)
			require.ErrorAs(t, err, &refused)
			require.Equal(t, match[2], refused.Message)
			require.Equal(t, line, refused.Line)
			require.NotContains(t, err.Error(), "hunter2", "a secret in a message")
		})
	}
}

func firstLine(t *testing.T, path string) string {
	file, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	scanner := bufio.NewScanner(file)
	require.True(t, scanner.Scan())
	return scanner.Text()
}

func TestJSONIsReadWithLines(t *testing.T) {
	_, _, err := definition.Load("testdata/unknown-key.json")
	require.EqualError(t, err, `testdata/unknown-key.json:4: key "cutovr" is not known; did you mean "cutover"?`)
}

func TestEveryKeyArrivesInTheSpec(t *testing.T) {
	spec, secrets, err := definition.Load("testdata/full.yaml")
	require.NoError(t, err)
	directory, err := filepath.Abs("testdata")
	require.NoError(t, err)

	require.Equal(t, map[migration.Side]migration.Typed{migration.Target: {Password: "p@ss"}}, secrets.Typed)
	require.Equal(t, migration.DerivedID("shop-to-apsara", spec.Source, spec.Target), spec.ID)
	spec.ID = ""
	require.Equal(t, migration.Spec{
		Name: "shop-to-apsara",
		Source: migration.Endpoint{
			URI:          "postgres://app@10.0.0.5:5432/shop",
			PasswordFrom: &migration.SecretRef{File: directory + "/secrets/source"},
			SSL:          &migration.SSL{Mode: "verify-full", CA: directory + "/ca.pem", Cert: "/etc/pgdts/cert.pem", Key: directory + "/key.pem", KeyPasswordFrom: &migration.SecretRef{Env: "SOURCE_KEY_PASSWORD"}},
		},
		Target: migration.Endpoint{
			URI: "postgres://owner@10.0.0.9:5432/shop?sslrootcert=" + strings.ReplaceAll(directory, "/", "%2F") + "%2Froot.pem",
		},
		Types: []migration.Type{migration.TypeSchema, migration.TypeFull, migration.TypeIncremental},
		Objects: []migration.Object{
			{
				Schema: "sales_*", Rename: "shop_$1", Exclude: []string{"tmp_*"}, WithoutKey: migration.FullIdentity,
				Operations: migration.Operations{migration.OperationInsert, migration.OperationUpdate},
			},
			{
				Table: "public.orders", Rename: "public.orders_v2", Where: "created_at >= '2024-01-01'",
				Columns: migration.Columns{Include: []string{"*"}, Exclude: []string{"note"}, Rename: map[string]string{"id": "order_id"}},
			},
		},
		EverythingElse: migration.IncludeElse,
		Operations:     migration.Operations{migration.OperationInsert, migration.OperationUpdate, migration.OperationDelete},
		Names:          migration.Naming{Case: migration.CaseLower},
		Conflict:       migration.ConflictIgnore,
		Identity:       migration.IdentitySetFull,
		Transform: []migration.Transform{{
			Tables: []string{"public.users"}, Set: map[string]string{"phone": "left(phone,3) || '****'"}, DropIf: "is_test", Disjoint: true,
		}},
		WithoutKey: migration.Refuse,
		Retry:      migration.RetryWindows{Connection: migration.Duration(time.Hour), Other: migration.Duration(5 * time.Minute)},
		Parallel:   migration.Parallel{Copy: 8, Index: 2},
		Precheck:   migration.PrecheckPolicy{Ignore: []string{"SOURCE_VERSION"}, OnFailure: "wait"},
		Schema:     migration.SchemaPolicy{Owner: "keep", Grants: true, OnObjectFailure: "skip"},
		OnFailure:  migration.KeepSlot,
		OnConflict: migration.StopOnConflict,
		Cutover: migration.Cutover{
			Mode: "auto", SteadyFor: migration.Duration(2 * time.Second), Fence: "read-only", After: "none", Verify: "counts",
			SequenceMargin: 100, Deadline: migration.Duration(30 * time.Second),
		},
		Tags:      map[string]string{"team": "shop", "environment": "prod"},
		TaskQueue: "dedicated", DDL: migration.DDLApplySafe,
	}, spec)
}

func TestObjectsExcludeEverythingElseUnlessSaid(t *testing.T) {
	ends := "source: {host: a, database: shop}\ntarget: {host: b, database: shop}\n"
	all, _, err := definition.Load(write(t, ends))
	require.NoError(t, err)
	require.Equal(t, migration.IncludeElse, all.EverythingElse)
	some, _, err := definition.Load(write(t, ends+"objects: [{schema: sales}]\n"))
	require.NoError(t, err)
	require.Equal(t, migration.ExcludeElse, some.EverythingElse)
}

func TestEverySubsetOfTypesIsTakenInOneOrder(t *testing.T) {
	for given, want := range map[string][]migration.Type{
		"[schema]":            {migration.TypeSchema},
		"[full, schema]":      {migration.TypeSchema, migration.TypeFull},
		"[incremental]":       {migration.TypeIncremental},
		"[incremental, full]": {migration.TypeFull, migration.TypeIncremental},
	} {
		spec, _, err := definition.Load(write(t, "source: {host: a, database: shop}\ntarget: {host: b, database: shop}\ntypes: "+given+"\n"))
		require.NoError(t, err, given)
		require.Equal(t, want, spec.Types)
	}
}

func TestDefaultsOfRunAndStartDiffer(t *testing.T) {
	path := write(t, `
source: {host: 10.0.0.5, port: 5433, database: shop, user: app}
target: {uri: "postgres://owner@10.0.0.9/apsara"}
`)
	run, _, err := definition.Load(path)
	require.NoError(t, err)
	start, err := definition.LoadForStart(path)
	require.NoError(t, err)

	require.Equal(t, "shop-to-apsara", run.Name)
	require.Equal(t, "fail", run.Precheck.OnFailure)
	require.Equal(t, "wait", start.Precheck.OnFailure)
	require.NotEqual(t, run.ID, start.ID)
	again, _, err := definition.Load(path)
	require.NoError(t, err)
	require.Equal(t, run.ID, again.ID, "run finds its migration again")
}

// TestHostsTellMigrationsApart: two clusters behind one name must not share an id, and thereby a slot and a ledger.
func TestHostsTellMigrationsApart(t *testing.T) {
	seen := map[migration.ID]string{}
	for _, uri := range []string{
		"postgres://app@a:5432,b:5432/shop", "postgres://app@a:5432,c:5432/shop", "postgres://app@a,b:5433/shop",
		"postgres:///shop?host=/tmp/one&user=app", "postgres:///shop?host=/tmp/two&user=app", "postgres:///shop?host=/tmp/two&port=5433&user=app",
		"postgres://app@[::1]:5432,[::2]:5432/shop",
	} {
		spec, _, err := definition.Load(write(t, fmt.Sprintf("source: {uri: %q}\ntarget: {uri: \"postgres://owner@t/shop\"}\n", uri)))
		require.NoError(t, err, uri)
		require.Empty(t, seen[spec.ID], "%s has the id of another", uri)
		seen[spec.ID] = uri
		require.Equal(t, "shop-to-shop", spec.Name)
	}
}

func TestPasswordsLeaveTheSpec(t *testing.T) {
	for _, uri := range []string{
		"postgres://app:hunter2@a:5432/shop", "postgres://app:hunter2@a:5432,b:5432/shop", "postgres://app@a/shop?password=hunter2",
		"postgres://app@a/shop?sslpassword=hunter2&sslcert=c&sslkey=k",
	} {
		spec, secrets, err := definition.Load(write(t, fmt.Sprintf("source: {uri: %q}\ntarget: {uri: \"postgres://owner@t/shop\"}\n", uri)))
		require.NoError(t, err, uri)
		require.Equal(t, "hunter2", secrets.Typed[migration.Source].Password+secrets.Typed[migration.Source].KeyPassword)
		require.NotContains(t, spec.Source.URI, "hunter2")
		require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", secrets.Typed, secrets.Typed, secrets.Typed, secrets.Typed), "hunter2")
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	_, _, err := definition.Load(filepath.Join(t.TempDir(), "none.yaml"))
	var refused *definition.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "no such file or directory", refused.Message)

	_, _, err = definition.Load(write(t, ""))
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "the file is empty", refused.Message)

	_, _, err = definition.Load(write(t, strings.Repeat("# a dump, not a definition\n", 50_000)))
	require.ErrorContains(t, err, "not a definition")
	require.False(t, errors.Is(err, os.ErrNotExist))
}

func write(t *testing.T, content string) string {
	path := filepath.Join(t.TempDir(), "definition.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// Passwords are taken as libpq takes them, and what stands beside them is left as it was written.
func TestPasswordsInURIsAreReadAsLibpqReadsThem(t *testing.T) {
	spec, secrets, err := definition.Load(write(t, `source: {uri: "postgres://a%40b:c+d%20e@h/shop?sslpassword=f+g%26h&options=-c%20x%3D1+2"}
target: {uri: "postgres://owner@t/shop"}
`))
	require.NoError(t, err)
	require.Equal(t, migration.Typed{Password: "c+d e", KeyPassword: "f+g&h"}, secrets.Typed[migration.Source])
	require.Equal(t, "postgres://a%40b@h/shop?options=-c%20x%3D1+2", spec.Source.URI)
}

// A definition that names connections says nothing of them: it may go anywhere, and its id stays when they move.
func TestNamedConnectionsTravel(t *testing.T) {
	path := write(t, "source: {connection: old-shop}\ntarget: {connection: new.shop}\n")
	run, secrets, err := definition.Load(path)
	require.NoError(t, err)
	require.Nil(t, secrets)
	start, err := definition.LoadForStart(path)
	require.NoError(t, err)
	require.Equal(t, migration.Endpoint{Connection: "old-shop"}, start.Source)
	require.Equal(t, "old-shop-to-new.shop", run.Name)
	require.Equal(t, "connection:new.shop", run.Target.Address())
	again, _, err := definition.Load(path)
	require.NoError(t, err)
	require.Equal(t, run.ID, again.ID)
}

// TestWrongConnectionsAreRefusedAtTheirLine does for the worker's file what is done for definitions.
func TestWrongConnectionsAreRefusedAtTheirLine(t *testing.T) {
	eachWanted(t, "testdata/connections", func(path string) error {
		_, err := definition.LoadConnections(path)
		return err
	})
}

func TestConnectionsArriveWithTheirSecretsApart(t *testing.T) {
	path := write(t, `connections:
  shop: {uri: "postgres://app:hunter2@a,b/shop", ssl: {mode: verify-full, ca: ca.pem, cert: c.pem, key: k.pem, keyPasswordFrom: {command: [./unlock, k]}}}
  next: {host: h, port: 5433, database: d, user: u, passwordFrom: {command: [vault, read]}, ssl: {ca: system}}
`)
	directory := filepath.Dir(path)
	connections, err := definition.LoadConnections(path)
	require.NoError(t, err)
	require.Equal(t, map[string]migration.Connection{
		"shop": {
			Endpoint: migration.Endpoint{URI: "postgres://app@/shop?host=a%2Cb&port=5432%2C5432", SSL: &migration.SSL{
				Mode: "verify-full", CA: directory + "/ca.pem", Cert: directory + "/c.pem", Key: directory + "/k.pem",
				KeyPasswordFrom: &migration.SecretRef{Command: []string{directory + "/unlock", "k"}},
			}},
			Typed: migration.Typed{Password: "hunter2"},
		},
		"next": {Endpoint: migration.Endpoint{
			Host: "h", Port: 5433, Database: "d", User: "u", PasswordFrom: &migration.SecretRef{Command: []string{"vault", "read"}}, SSL: &migration.SSL{CA: "system"},
		}},
	}, connections)
}

// A file that names programs to run, or holds passwords, is nobody else's business.
func TestConnectionsThatOthersMayTouchAreRefused(t *testing.T) {
	for _, test := range []struct {
		uri, words string
		mode       os.FileMode
	}{
		{"postgres://app:hunter2@a/shop", "others may read this file", 0o604},
		{"postgres://app@a/shop?sslpassword=hunter2", "others may read this file", 0o644},
		{"postgres://app@a/shop", "others may write this file", 0o602},
		{"postgres://app@a/shop", "", 0o644},
		{"postgres://app:hunter2@a/shop", "", 0o640},
	} {
		path := write(t, fmt.Sprintf("connections: {shop: {uri: %q}}\n", test.uri))
		require.NoError(t, os.Chmod(path, test.mode))
		_, err := definition.LoadConnections(path)
		if test.words == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, test.words)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
