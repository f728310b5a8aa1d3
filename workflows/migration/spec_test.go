package migration_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/workflows/migration"
)

func TestRetryWindows(t *testing.T) {
	t.Parallel()
	const m = time.Minute
	for _, test := range []struct {
		connection, other time.Duration
		key               string // "" = taken
	}{
		{720 * m, 10 * m, ""},
		{10 * m, 1 * m, ""},
		{1440 * m, 1439 * m, ""},
		{10*m - 1, 1 * m, "retry.connection"},
		{1440*m + 1, 1 * m, "retry.connection"},
		{720 * m, 1*m - 1, "retry.other"},
		{720 * m, 1440*m + 1, "retry.other"},
		{720 * m, 720 * m, "retry.other"}, // smaller, not equal
		{10 * m, 11 * m, "retry.other"},
		{0, 0, "retry.connection"},
		{-10 * m, -20 * m, "retry.connection"},
	} {
		err := migration.RetryWindows{Connection: migration.Duration(test.connection), Other: migration.Duration(test.other)}.Validate()
		var wrong *migration.DefinitionError
		switch {
		case test.key == "" && err != nil:
			t.Errorf("%s, %s: %v", test.connection, test.other, err)
		case test.key != "" && (!errors.As(err, &wrong) || wrong.Key != test.key):
			t.Errorf("%s, %s: %v, not %s", test.connection, test.other, err, test.key)
		}
	}
}

func valid() migration.Spec {
	s := migration.Spec{
		ID: migration.RandomID("shop"), Source: migration.Endpoint{Database: "shop"}, Target: migration.Endpoint{URI: "postgres://h/mall"},
	}
	s.Defaults()
	return s
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	s := valid()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if s.Name != "shop-to-mall" {
		t.Error(s.Name)
	}
	again := s
	again.Defaults()
	if again.Retry != s.Retry || again.Cutover != s.Cutover || again.Name != s.Name {
		t.Error("defaults twice are not defaults once")
	}
}

// The error names the key and what it takes; nothing wrong is let through.
func TestValidateNamesTheKey(t *testing.T) {
	t.Parallel()
	for key, spoil := range map[string]func(*migration.Spec){
		"name":                   func(s *migration.Spec) { s.Name = "a b" },
		"migration id":           func(s *migration.Spec) { s.ID = "shop" },
		"retry.other":            func(s *migration.Spec) { s.Retry.Other = s.Retry.Connection },
		"withoutKey":             func(s *migration.Spec) { s.WithoutKey = "maybe" },
		"precheck.onFailure":     func(s *migration.Spec) { s.Precheck.OnFailure = "" },
		"schema.owner":           func(s *migration.Spec) { s.Schema.Owner = "me" },
		"schema.onObjectFailure": func(s *migration.Spec) { s.Schema.OnObjectFailure = "hope" },
		"onFailure":              func(s *migration.Spec) { s.OnFailure = "drop" },
		"onConflict":             func(s *migration.Spec) { s.OnConflict = "target-wins" },
		"cutover.mode":           func(s *migration.Spec) { s.Cutover.Mode = "now" },
		"cutover.fence":          func(s *migration.Spec) { s.Cutover.Fence = "wall" },
		"cutover.after":          func(s *migration.Spec) { s.Cutover.After = "x" },
		"cutover.verify":         func(s *migration.Spec) { s.Cutover.Verify = "x" },
		"cutover.deadline":       func(s *migration.Spec) { s.Cutover.Deadline = migration.Duration(2 * time.Hour) },
		"cutover.steadyFor":      func(s *migration.Spec) { s.Cutover.SteadyFor = -1 },
		"cutover.sequenceMargin": func(s *migration.Spec) { s.Cutover.SequenceMargin = -1 },
		"parallel.copy":          func(s *migration.Spec) { s.Parallel.Copy = 65 },
		"parallel.index":         func(s *migration.Spec) { s.Parallel.Index = -1 },
	} {
		s := valid()
		spoil(&s)
		if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+" ") || !strings.Contains(err.Error(), "want") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// Addresses are ids and messages: the same endpoint has one, and no secret is in it.
func TestEndpointAddress(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]migration.Endpoint{
		"app@h:5432/shop":    {URI: "postgres://app:secret@h:5432/shop?sslmode=require"},
		"app@h:5433/shop":    {Host: "h", Port: 5433, Database: "shop", User: "app"},
		"app@h/shop":         {URI: "postgres://ignored@/x?host=h&dbname=shop&user=app"},
		"@/":                 {},
		"app@a:1,b:2/shop":   {URI: "postgres://app@a:1,b:2/shop"},
		"app@/run/pg:9/shop": {URI: "postgres:///shop?host=/run/pg&user=app&port=9"},
		"connection:shop":    {Connection: "shop"},
	} {
		if got := e.Address(); got != want {
			t.Errorf("%+v: %s, not %s", e, got, want)
		}
	}
}

func TestDefaultNameIsANameWhateverTheDatabasesAreCalled(t *testing.T) {
	long := strings.Repeat("é", 31)
	for _, databases := range [][2]string{{"shop", "shop"}, {"my shop", "a/b"}, {long, long}, {"x", long + "y"}} {
		spec := migration.Spec{
			ID: migration.RandomID("x"), Source: migration.Endpoint{Host: "a", Database: databases[0]}, Target: migration.Endpoint{Host: "b", Database: databases[1]},
		}
		spec.Defaults()
		require.NoError(t, spec.Validate(), databases)
		require.True(t, utf8.ValidString(spec.Name))
	}
}
