package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pgdts/pgdts/tests/pgserver"
)

// Option changes the server that Server starts.
type Option func(*pgserver.Config)

// Major asks for a version of PostgreSQL, which is downloaded when it is not on this machine.
func Major(major int) Option {
	return func(config *pgserver.Config) { config.Major = major }
}

// Setting adds a setting of the server.
func Setting(name, value string) Option {
	return func(config *pgserver.Config) {
		if config.Settings == nil {
			config.Settings = map[string]string{}
		}
		config.Settings[name] = value
	}
}

// Server starts a private server, which the end of the test stops and removes. A failed test shows
// the end of its log. A test of a version that cannot be had is skipped.
func Server(t testing.TB, options ...Option) *pgserver.Server {
	t.Helper()
	var config pgserver.Config
	for _, option := range options {
		option(&config)
	}
	obtain(t, config.Major)
	server, err := pgserver.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of server on port %d:\n%s", server.Port(), server.LogTail(30))
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func obtain(t testing.TB, major int) {
	t.Helper()
	_, err := pgserver.Find(major)
	if major != 0 && errors.Is(err, pgserver.ErrNotFound) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if _, err := pgserver.Fetch(ctx, major); err != nil {
			t.Skipf("postgresql %d is not here: %v", major, err)
		}
	}
}

// shared is the one piece of state of a test process: its common server.
var shared struct {
	sync.Mutex
	server *pgserver.Server
	err    error
}

// Shared returns the server that all tests of this process use together, started by the first of
// them. It ends with the process; its directory goes when the package's TestMain calls Main, and
// otherwise when the next server is started on this machine.
func Shared(t testing.TB) *pgserver.Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		// Not the test's context: the server outlives the test that happens to come first.
		shared.server, shared.err = pgserver.Start(context.Background(), pgserver.Config{})
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// Main runs the tests of a package, then what is to be asked after all of them, and removes the shared server:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
func Main(m *testing.M, after ...func() error) {
	code := m.Run()
	for _, ask := range after {
		if err := ask(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, "FAIL:", err)
			code = 1
		}
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close shared server:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}
