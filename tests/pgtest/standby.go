package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/tests/pgserver"
)

// Standby starts a hot standby of a server of version 12 or newer, which restarts for it. It has a physical slot of its own
// there, and all that a standby of version 17 needs to keep logical slots in step but the order to do so, which is
// sync_replication_slots = on. The end of the test stops and removes it.
func Standby(t testing.TB, primary *pgserver.Server) *pgserver.Server {
	t.Helper()
	// Not the test's directory: that one is closed to the user who runs the servers.
	dir, err := os.MkdirTemp("", "pgdts-standby-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := primary.Stop(pgserver.Fast); err != nil {
		t.Fatal(err)
	}
	from, to := filepath.Join(primary.Dir, "data"), filepath.Join(dir, "data")
	// A file of the server's becomes the signal, so that it is the server's too.
	for _, args := range [][]string{{from, to}, {filepath.Join(from, "PG_VERSION"), filepath.Join(to, "standby.signal")}} {
		if out, err := exec.Command("cp", "-a", args[0], args[1]).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v: %s", args[0], err, out)
		}
	}
	if err := primary.Restart(t.Context(), pgserver.Fast); err != nil {
		t.Fatal(err)
	}
	makePhysicalSlot(t, primary)
	config := pgserver.Config{Dir: dir, Major: primary.Binaries.Major, Settings: map[string]string{
		"primary_conninfo":     fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres", primary.Port()),
		"primary_slot_name":    standbySlot,
		"hot_standby_feedback": "on",
	}}
	standby, err := pgserver.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of standby on port %d:\n%s", standby.Port(), standby.LogTail(30))
		}
		if err := standby.Close(); err != nil {
			t.Error(err)
		}
	})
	return standby
}

const standbySlot = "standby"

func makePhysicalSlot(t testing.TB, primary *pgserver.Server) {
	t.Helper()
	err := session(t.Context(), primary.URI("postgres"), func(conn *pgx.Conn) error {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "select pg_create_physical_replication_slot($1, true)", standbySlot)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// On is the same database on another server: a standby of this one's, say. The end of the test does nothing about it.
func (db *DB) On(server *pgserver.Server) *DB {
	return &DB{URI: server.URI(db.Name), Name: db.Name, Server: server}
}
