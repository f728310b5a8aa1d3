package pgserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// settingsFile is included by postgresql.conf and written anew at every start.
const settingsFile = "pgdts.conf"

// socketPathMax is what the kernel allows for a Unix socket's path, less the name of the socket.
const socketPathMax = 107 - len("/.s.PGSQL.65535")

func (s *Server) initdb(ctx context.Context) error {
	command := exec.CommandContext(ctx, s.Binaries.Path("initdb"), "--pgdata", s.data(), "--no-sync",
		"--auth", "trust", "--encoding", "UTF8", "--locale", locale(), "--username", s.config.Superuser)
	command.Dir = s.Dir
	command.Env = environment()
	command.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner.credential}
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb %s: %w: %s", s.data(), err, out)
	}
	file, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("configure server: %w", err)
	}
	_, err = fmt.Fprintf(file, "\ninclude = '%s'\n", settingsFile)
	return errors.Join(err, file.Close())
}

// locale prefers the one that knows letters beyond ASCII; both sort by bytes.
func locale() string {
	out, err := exec.Command("locale", "-a").Output()
	names := strings.Fields(strings.ToLower(string(out)))
	if err == nil && (slices.Contains(names, "c.utf8") || slices.Contains(names, "c.utf-8")) {
		return "C.UTF-8"
	}
	return "C"
}

// environment is ours without the variables that would steer the server, such as PGDATA and PGPORT.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PG") || strings.HasPrefix(variable, "LC_") || strings.HasPrefix(variable, "LANG")
	})
}

// launch starts the postmaster and waits until it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.writeSettings(); err != nil {
		return err
	}
	command := exec.Command(s.Binaries.Path("postgres"), "-D", s.data())
	command.Dir = s.Dir
	command.Env = environment()
	postmaster, err := startProcess(command, s.log(), s.owner.credential)
	if err != nil {
		return fmt.Errorf("start server in %s: %w", s.Dir, err)
	}
	s.postmaster = postmaster
	if err := s.awaitReady(ctx); err != nil {
		stopErr := s.stop(Immediate)
		return errors.Join(fmt.Errorf("start server in %s: %w\n%s", s.Dir, err, s.LogTail(20)), stopErr)
	}
	return nil
}

func (s *Server) writeSettings() error {
	settings := maps.Clone(s.config.Settings)
	settings["port"] = strconv.Itoa(s.config.Port)
	settings["unix_socket_directories"] = s.data()
	if len(s.data()) > socketPathMax {
		settings["unix_socket_directories"] = ""
	}
	path := filepath.Join(s.data(), settingsFile)
	if err := os.WriteFile(path, []byte(render(settings)), 0o644); err != nil {
		return fmt.Errorf("configure server: %w", err)
	}
	return nil
}

// awaitReady connects until it succeeds. That a session opens is the only proof: while the server
// recovers, it listens and refuses.
func (s *Server) awaitReady(ctx context.Context) error {
	for {
		err := s.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.postmaster.exited:
			return fmt.Errorf("postmaster ended: %w", s.postmaster.result())
		case <-ctx.Done():
			return fmt.Errorf("await connections: %w: %w", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// probe checks the data directory too, lest another server on the same port be taken for this one.
func (s *Server) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return s.admin(ctx, func(conn *pgx.Conn) error {
		var data string
		if err := conn.QueryRow(ctx, "select pg_catalog.current_setting('data_directory')").Scan(&data); err != nil {
			return err
		}
		if data != s.data() {
			return fmt.Errorf("port %d belongs to the server in %s", s.Port(), data)
		}
		return nil
	})
}
