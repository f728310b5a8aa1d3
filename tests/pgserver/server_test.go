package pgserver

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func start(t *testing.T, config Config) *Server {
	t.Helper()
	server, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func connect(t *testing.T, server *Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URI("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec1(t *testing.T, server *Server, sql string) {
	t.Helper()
	if _, err := connect(t, server).Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func mustHave(t *testing.T, server *Server, query, want string) {
	t.Helper()
	var got string
	if err := connect(t, server).QueryRow(t.Context(), query).Scan(&got); err != nil || got != want {
		t.Fatalf("%s: %q, not %q (%v)", query, got, want, err)
	}
}

func TestRestartKeepsPortAndRows(t *testing.T) {
	t.Parallel()
	server := start(t, Config{})
	port := server.Port()
	exec1(t, server, "create table a as select 'kept' as note")
	for _, mode := range []StopMode{Fast, Immediate} {
		if err := server.Restart(t.Context(), mode); err != nil {
			t.Fatal(err)
		}
		mustHave(t, server, "select note from a", "kept")
	}
	if server.Port() != port {
		t.Errorf("port went from %d to %d", port, server.Port())
	}
}

func TestKilledServerRecovers(t *testing.T) {
	t.Parallel()
	server := start(t, Config{})
	exec1(t, server, "create table a as select 'kept' as note")
	busy := connect(t, server)
	go func() { _, _ = busy.Exec(context.Background(), "select count(*) from generate_series(1, 1e12)") }()
	for range 3 {
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if server.Running() {
			t.Fatal("killed server runs")
		}
		if err := server.Restart(t.Context(), Fast); err != nil {
			t.Fatal(err)
		}
		mustHave(t, server, "select note from a", "kept")
	}
	if log := server.LogTail(1000); !strings.Contains(log, "was not properly shut down") {
		t.Errorf("log shows no recovery:\n%s", log)
	}
}

func TestFrozenServerAnswersAfterThaw(t *testing.T) {
	t.Parallel()
	server := start(t, Config{})
	conn := connect(t, server)
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(t.Context()) }()
	select {
	case err := <-answered:
		t.Fatalf("frozen server answered: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := server.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(Fast); err != nil {
		t.Fatal(err)
	}
}

func TestSetIsSeenByNewSessions(t *testing.T) {
	t.Parallel()
	server := start(t, Config{Settings: map[string]string{"work_mem": "5MB", "fsync": "on"}})
	mustHave(t, server, "show work_mem", "5MB")
	mustHave(t, server, "show fsync", "on")
	for setting, value := range map[string]string{"work_mem": "6MB", "log_line_prefix": "it's "} {
		if err := server.Set(t.Context(), setting, value); err != nil {
			t.Fatal(err)
		}
		mustHave(t, server, "show "+setting, value)
	}
	if err := server.CreateDatabase(t.Context(), `Odd "name`); err != nil {
		t.Fatal(err)
	}
}

func TestGivenDirectoryStaysAndStartsAgain(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "pgserver-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	first := start(t, Config{Dir: dir, Superuser: "chief"})
	exec1(t, first, "create table a as select current_user::text as note")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	mustHave(t, start(t, Config{Dir: dir, Superuser: "chief"}), "select note from a", "chief")
}

func TestFailedStartNamesTheReason(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Config{Port: 1 << 15, Settings: map[string]string{"no_such": "thing"}})
	if err == nil || !strings.Contains(err.Error(), "no_such") {
		t.Fatalf("error is %v", err)
	}
	if _, err := Start(t.Context(), Config{Settings: map[string]string{"listen_addresses": "*"}}); err == nil {
		t.Fatal("server without passwords listens everywhere")
	}
}

// TestServerDiesWithItsProcess runs this test binary again, as the process that is killed.
func TestServerDiesWithItsProcess(t *testing.T) {
	t.Parallel()
	if role := os.Getenv("PGSERVER_TEST_VICTIM"); role != "" {
		beVictim(t, role == "frozen")
	}
	for _, role := range []string{"running", "frozen"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "pgserver-test-*")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			victim := exec.Command(os.Args[0], "-test.run=^TestServerDiesWithItsProcess$")
			victim.Env = append(os.Environ(), "PGSERVER_TEST_VICTIM="+role, "PGSERVER_TEST_DIR="+dir)
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			pids := awaitPids(t, filepath.Join(dir, "pids"))
			if err := victim.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = victim.Wait()
			for _, pid := range pids {
				awaitEnd(t, pid)
			}
		})
	}
}

// beVictim writes the numbers of its server's processes and waits to be killed.
func beVictim(t *testing.T, frozen bool) {
	dir := os.Getenv("PGSERVER_TEST_DIR")
	server := start(t, Config{Dir: dir})
	busy := connect(t, server)
	go func() { _, _ = busy.Exec(context.Background(), "select count(*) from generate_series(1, 1e12)") }()
	pids, err := children(server.postmaster.pid)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, pid := range append(pids, server.postmaster.pid) {
		text.WriteString(strconv.Itoa(pid) + " ")
	}
	if frozen {
		if err := server.Freeze(); err != nil {
			t.Fatal(err)
		}
	}
	whole := filepath.Join(dir, "pids")
	if err := os.WriteFile(whole+".new", []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(whole+".new", whole); err != nil {
		t.Fatal(err)
	}
	select {}
}

func awaitPids(t *testing.T, file string) []int {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		text, err := os.ReadFile(file)
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		var pids []int
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		return pids
	}
	t.Fatal("the other process started no server")
	return nil
}

func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		stat, err := readStat(pid)
		if err != nil || stat.zombie() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	t.Errorf("process %d outlived its owner", pid)
}
