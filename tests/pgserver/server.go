package pgserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// startTimeout bounds one start, crash recovery included.
const startTimeout = 2 * time.Minute

// Server is one PostgreSQL server, a child of this process. Its methods may be called concurrently,
// except that a stop, a restart or a kill waits for the one before it.
type Server struct {
	// Dir holds the cluster and the log.
	Dir string
	// Binaries is the installation that the server runs from.
	Binaries Binaries

	config Config
	owner  owner
	temp   *tempDir

	mu         sync.Mutex
	postmaster *process
	freeze     *freeze
}

// Start makes a cluster where there is none and returns once the server accepts connections.
// The context bounds the start only. When it fails, nothing runs, and a temporary directory is gone;
// the error has the end of the server's log.
func Start(ctx context.Context, config Config) (*Server, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	binaries, err := Find(config.Major)
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	s := &Server{Dir: config.Dir, Binaries: binaries, config: config}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.launchOnFreePort(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) prepare(ctx context.Context) (err error) {
	if s.owner, err = serverOwner(); err != nil {
		return err
	}
	if s.Dir == "" {
		if s.temp, err = makeTempDir(); err != nil {
			return err
		}
		s.Dir = s.temp.path
	}
	if s.Dir, err = filepath.Abs(s.Dir); err != nil {
		return fmt.Errorf("make server directory: %w", err)
	}
	if err := os.MkdirAll(s.data(), 0o755); err != nil {
		return fmt.Errorf("make server directory: %w", err)
	}
	if err := s.owner.take(s.Dir, s.data()); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.data(), "PG_VERSION")); err == nil {
		return nil
	}
	return s.initdb(ctx)
}

// launchOnFreePort tries another port where the one that was free has been taken meanwhile.
func (s *Server) launchOnFreePort(ctx context.Context) error {
	if s.config.Port != 0 {
		return s.launch(ctx)
	}
	var err error
	for range 5 {
		if s.config.Port, err = freePort(); err != nil {
			return err
		}
		if err = s.launch(ctx); err == nil || isFree(s.config.Port) {
			return err
		}
	}
	return err
}

// freePort looks below 32768, where Linux takes no ports for outgoing connections.
func freePort() (int, error) {
	for range 100 {
		port := 20000 + rand.IntN(12000)
		if isFree(port) {
			return port, nil
		}
	}
	return 0, errors.New("find free port: a hundred were taken")
}

func isFree(port int) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	return err == nil && listener.Close() == nil
}

// Port is the server's port on 127.0.0.1, the same for its whole life.
func (s *Server) Port() int { return s.config.Port }

// URI returns the connection string of a database for the superuser; there is no password.
func (s *Server) URI(database string) string {
	uri := url.URL{
		Scheme: "postgres",
		User:   url.User(s.config.Superuser),
		Host:   net.JoinHostPort("127.0.0.1", strconv.Itoa(s.config.Port)),
		Path:   "/" + database,
	}
	return uri.String()
}

// LogTail returns the last n lines of the log, empty when there is none.
func (s *Server) LogTail(n int) string {
	text, err := os.ReadFile(s.log())
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// CreateDatabase makes an empty database from template0.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return s.admin(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()+" template template0")
		if err != nil {
			return fmt.Errorf("create database %s: %w", name, err)
		}
		return nil
	})
}

// Set changes a setting for good (alter system) and returns once new sessions see it. Settings that
// need a restart take effect with the next Restart.
func (s *Server) Set(ctx context.Context, name, value string) error {
	var before time.Time
	err := s.admin(ctx, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, "select pg_catalog.pg_conf_load_time()").Scan(&before); err != nil {
			return err
		}
		setting := pgx.Identifier(strings.Split(name, ".")).Sanitize()
		quoted := "'" + strings.ReplaceAll(value, "'", "''") + "'"
		if _, err := conn.Exec(ctx, "alter system set "+setting+" = "+quoted); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "select pg_catalog.pg_reload_conf()")
		return err
	})
	if err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return s.waitReloaded(ctx, before)
}

// waitReloaded asks in new sessions, which inherit what the postmaster has loaded.
func (s *Server) waitReloaded(ctx context.Context, before time.Time) error {
	loaded := before
	for !loaded.After(before) {
		err := s.admin(ctx, func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, "select pg_catalog.pg_conf_load_time()").Scan(&loaded)
		})
		if err != nil {
			return fmt.Errorf("wait for reload: %w", err)
		}
	}
	return nil
}

// admin runs work in a session of the database postgres.
func (s *Server) admin(ctx context.Context, work func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.URI("postgres"))
	if err != nil {
		return fmt.Errorf("connect to server on port %d: %w", s.Port(), err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return work(conn)
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }
func (s *Server) log() string  { return filepath.Join(s.Dir, "server.log") }
