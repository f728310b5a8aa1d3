// Package slottest prepares a migration for tests of what comes after: two databases, a ledger, publications and a slot.
package slottest

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Run is the execution that holds the lease.
const Run = "run-1"

// Bench is one migration between two databases of a server.
type Bench struct {
	From, To       *pgtest.DB
	Source, Target *pg.Server
	Spec           migration.Spec

	mu    sync.Mutex
	beats []migration.Beat
}

// New makes both databases, runs setup on the source, and creates the ledger. Nothing is prepared yet.
func New(t *testing.T, server *pgserver.Server, setup string) *Bench {
	t.Helper()
	from, to := pgtest.Database(t, server), pgtest.Database(t, server)
	if setup != "" {
		from.Exec(t, setup)
	}
	b := Existing(t, migration.RandomID("test"), from.URI, to.URI)
	b.From, b.To = from, to
	conn := b.Connect(t, b.Target)
	require.NoError(t, ledger.Create(t.Context(), conn))
	require.NoError(t, ledger.Ledger{ID: b.Spec.ID, Conn: conn}.Acquire(t.Context(), Run, b.Spec))
	return b
}

// Existing is a migration that another process has begun. From and To are not set.
func Existing(t *testing.T, id migration.ID, source, target string) *Bench {
	t.Helper()
	b := &Bench{Spec: migration.Spec{ID: id, Source: migration.Endpoint{URI: source}, Target: migration.Endpoint{URI: target}}}
	b.Spec.Defaults()
	var err error
	b.Source, err = pg.NewServer(migration.Source, b.Spec.Source, nil)
	require.NoError(t, err)
	b.Target, err = pg.NewServer(migration.Target, b.Spec.Target, nil)
	require.NoError(t, err)
	return b
}

// Connect opens a session with the settings of a migration, which the end of the test closes.
func (b *Bench) Connect(t *testing.T, server *pg.Server) *pgx.Conn {
	t.Helper()
	conn, err := server.Connect(t.Context(), "test")
	require.NoError(t, err)
	t.Cleanup(func() { pg.Close(conn) })
	return conn
}

// Ledger is the migration's, on a session of its own.
func (b *Bench) Ledger(t *testing.T) ledger.Ledger {
	t.Helper()
	return ledger.Ledger{ID: b.Spec.ID, Conn: b.Connect(t, b.Target)}
}

// Enter takes a lane.
func (b *Bench) Enter(t *testing.T, name string) ledger.Lane {
	t.Helper()
	lane, err := b.Ledger(t).Enter(t.Context(), Run, name)
	require.NoError(t, err)
	return lane
}

// Config is what Prepare takes, with the tables as they are now.
func (b *Bench) Config(t *testing.T) slot.Config {
	t.Helper()
	selection, _, err := mapping.Read(t.Context(), b.Connect(t, b.Source), b.Spec)
	require.NoError(t, err)
	return slot.Config{
		Source: b.Source, Target: b.Target, Lane: b.Enter(t, "prepare"), Spec: b.Spec, Tables: selection.Tables,
		Report: b.Report, Logger: zaptest.NewLogger(t),
	}
}

// Prepare makes publications and slot.
func (b *Bench) Prepare(t *testing.T) migration.LSN {
	t.Helper()
	start, err := slot.Prepare(t.Context(), b.Config(t))
	require.NoError(t, err)
	return start
}

// Drop removes what Prepare has made, and must find nothing in its way.
func (b *Bench) Drop(t *testing.T) {
	t.Helper()
	owed, err := slot.Drop(context.WithoutCancel(t.Context()), b.Source, b.Ledger(t))
	require.NoError(t, err)
	require.Empty(t, owed)
}

// Report keeps a beat.
func (b *Bench) Report(beat migration.Beat) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.beats = append(b.beats, beat)
}

// Beats are the reports so far.
func (b *Bench) Beats() []migration.Beat {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.beats)
}

// Version is the source's.
func (b *Bench) Version(t *testing.T) int {
	t.Helper()
	version, err := pg.Version(t.Context(), b.Connect(t, b.Source))
	require.NoError(t, err)
	return version
}

// MustFault asks that an error is a fault of a kind with a hint, and returns it.
func MustFault(t *testing.T, kind migration.FaultKind, err error) *migration.Fault {
	t.Helper()
	fault, ok := migration.AsFault(err)
	require.True(t, ok, "no fault: %v", err)
	require.Equal(t, kind, fault.Kind, "%v", err)
	return fault
}
