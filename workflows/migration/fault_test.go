package migration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/workflows/migration"
)

// A kind without a row in the policy would get the empty directive, and nobody would know what to do.
func TestPolicyCoversEveryKind(t *testing.T) {
	t.Parallel()
	kinds := constants(t, "FaultKind")
	if len(kinds) < 10 {
		t.Fatalf("only %d kinds were found in the source", len(kinds))
	}
	directives := constants(t, "Directive")
	for _, kind := range kinds {
		directive, ok := migration.Policy[migration.FaultKind(kind)]
		if !ok || !slices.Contains(directives, string(directive)) {
			t.Errorf("%s has the directive %q", kind, directive)
		}
	}
	if len(migration.Policy) != len(kinds) {
		t.Errorf("%d rows for %d kinds", len(migration.Policy), len(kinds))
	}
}

// constants reads the values of a type's constants from the source, so that one added later is not forgotten.
func constants(t *testing.T, name string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "fault.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == name {
			values = append(values, strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`))
		}
		return true
	})
	return values
}

func TestFaultIsOneSentence(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection reset")
	for want, fault := range map[string]*migration.Fault{
		"copy chunk a.b: connection reset (look at the network)": migration.NewFault(migration.FaultConnection, "copy chunk", "a.b", cause, "look at the network"),
		"copy chunk a.b: connection reset":                       migration.NewFault(migration.FaultConnection, "copy chunk", "a.b", cause, ""),
		"connection reset":                                       migration.NewFault(migration.FaultConnection, "", "", cause, ""),
		"drop slot":                                              migration.NewFault(migration.FaultOther, "drop slot", "", nil, ""),
		"read row 7: gone":                                       migration.Faultf(migration.FaultOther, "read", "row 7", "%s", "gone"),
	} {
		if fault.Error() != want {
			t.Errorf("%q, not %q", fault, want)
		}
	}
}

func TestFaultIsFoundInAChain(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	fault := migration.NewFault(migration.FaultDrift, "apply", "a.b", cause, "")
	found, ok := migration.AsFault(fmt.Errorf("stream: %w", fault))
	if !ok || found != fault || !errors.Is(found, cause) {
		t.Errorf("%v, %t", found, ok)
	}
	if _, ok := migration.AsFault(cause); ok {
		t.Error("an error without a fault has one")
	}
}

// Beyond the activity only what JSON carries is left.
func TestFaultSurvivesJSON(t *testing.T) {
	t.Parallel()
	fault := migration.Fault{
		Kind: migration.FaultPrivilege, Side: migration.Target, Op: "create", Object: "a.b", SQLState: "42501",
		Message: "permission denied", Hint: "grant it",
	}
	data, err := json.Marshal(&fault)
	if err != nil {
		t.Fatal(err)
	}
	var back migration.Fault
	if err := json.Unmarshal(data, &back); err != nil || back != fault {
		t.Errorf("%s became %+v (%v)", data, back, err)
	}
}
