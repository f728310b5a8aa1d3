package pgserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
)

const (
	// freezeEvery is how far ids may leap at once: rows that are not frozen would seem to be of the future beyond 2^31.
	freezeEvery = 1 << 30
	// idsPerSegment is of a file of the commit log, idsPerByte of a byte in it.
	idsPerSegment, idsPerByte = 1 << 20, 4
)

// LeapTo lets transaction ids leap ahead: the next is the one given, with its epoch in the upper half. The server is
// stopped in order and started again a few times, and every row is frozen, as vacuum would have done by then. It needs
// pg_resetwal. After an error the server is of no more use.
func (s *Server) LeapTo(ctx context.Context, next uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		at, err := s.freezeAll(ctx)
		if err != nil {
			return fmt.Errorf("freeze rows: %w", err)
		}
		if at >= next {
			return fmt.Errorf("leap to transaction %d: the server is at %d", next, at)
		}
		to := min(next, at+freezeEvery)
		if err := s.leap(ctx, to); err != nil {
			return fmt.Errorf("leap to transaction %d: %w", to, err)
		}
		if to == next {
			return nil
		}
	}
}

// freezeAll returns the next id.
func (s *Server) freezeAll(ctx context.Context) (next uint64, err error) {
	var names []string
	err = s.admin(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "update pg_catalog.pg_database set datallowconn = true"); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, "select datname::text from pg_catalog.pg_database")
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	for _, name := range names {
		if err != nil {
			break
		}
		err = s.freezeOne(ctx, name)
	}
	if err != nil {
		return 0, err
	}
	err = s.admin(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select pg_catalog.txid_current() + 1").Scan(&next)
	})
	return next, err
}

func (s *Server) freezeOne(ctx context.Context, database string) error {
	conn, err := pgx.Connect(ctx, s.URI(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, "vacuum freeze")
	return err
}

func (s *Server) leap(ctx context.Context, to uint64) error {
	if err := s.stop(Fast); err != nil {
		return err
	}
	if err := s.zeroCommitLog(uint32(to)); err != nil { //nolint:gosec // files are numbered within an epoch
		return err
	}
	reset := exec.CommandContext(ctx, s.Binaries.Path("pg_resetwal"), "-D", s.data(),
		"-x", strconv.FormatUint(to&(1<<32-1), 10), "-e", strconv.FormatUint(to>>32, 10))
	reset.Dir = s.Dir
	reset.Env = environment()
	reset.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner.credential}
	if out, err := reset.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_resetwal: %w: %s", err, out)
	}
	return s.launch(ctx)
}

// zeroCommitLog makes the file that the next id is in, which the server does not do for ids that it has not come to.
func (s *Server) zeroCommitLog(next uint32) error {
	path := filepath.Join(s.data(), "pg_xact", fmt.Sprintf("%04X", next/idsPerSegment))
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.WriteFile(path, make([]byte, idsPerSegment/idsPerByte), 0o600); err != nil {
		return err
	}
	return s.owner.take(path)
}
