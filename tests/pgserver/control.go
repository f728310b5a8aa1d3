package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// stopTimeout is how long a stop in order may take. A fast shutdown waits for every walsender's
// client to confirm the last position, which a stuck client never does.
const stopTimeout = time.Minute

// StopMode is how a server is stopped.
type StopMode int

const (
	// Fast ends the sessions, writes a checkpoint and leaves a clean cluster.
	Fast StopMode = iota
	// Immediate ends everything at once; the next start recovers from the log.
	Immediate
)

func (m StopMode) signal() syscall.Signal {
	if m == Immediate {
		return syscall.SIGQUIT
	}
	return syscall.SIGINT
}

// Stop ends the server and returns when it has ended. A server that does not end within a minute is
// killed, and that is an error. Stopping a stopped server does nothing.
func (s *Server) Stop(mode StopMode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop(mode)
}

// Restart stops the server if it runs and starts it again on the same port. After Kill, this is how
// it comes back.
func (s *Server) Restart(ctx context.Context, mode StopMode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stop(mode); err != nil {
		return err
	}
	return s.launch(ctx)
}

// Kill ends the postmaster and its children with SIGKILL, as the kernel does when memory runs out,
// and returns when they are gone.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kill()
}

// Freeze stops the server in its tracks: connections stay open and nothing answers, as on a host
// that hangs. Freezing a frozen server does nothing. Should this process die, the server thaws to end.
func (s *Server) Freeze() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.freeze != nil || !s.alive() {
		return nil
	}
	frozen, err := freezeTree(s.postmaster)
	s.freeze = frozen
	return err
}

// Thaw lets a frozen server go on. Thawing another one does nothing.
func (s *Server) Thaw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.thaw()
}

// Close stops the server and removes its directory if that is a temporary one.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.stop(Immediate)
	if s.temp == nil {
		return err
	}
	return errors.Join(err, s.temp.remove())
}

// Running reports whether the server runs and is not frozen.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive() && s.freeze == nil
}

func (s *Server) alive() bool { return s.postmaster != nil && s.postmaster.running() }

func (s *Server) stop(mode StopMode) error {
	if err := s.thaw(); err != nil || !s.alive() {
		return err
	}
	if err := s.postmaster.signal(mode.signal()); err != nil {
		return err
	}
	select {
	case <-s.postmaster.exited:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("stop server in %s: still running after %s", s.Dir, stopTimeout), s.kill())
	}
}

// kill stops the postmaster first, so that it starts no child behind our back. It waits for the
// children because a new server refuses to start while one has the shared memory.
func (s *Server) kill() error {
	if !s.alive() {
		return nil
	}
	if err := s.postmaster.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	orphans, err := children(s.postmaster.pid)
	if err != nil {
		return err
	}
	for _, pid := range append(orphans, s.postmaster.pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	<-s.postmaster.exited
	for _, pid := range orphans {
		awaitGone(pid)
	}
	return s.thaw()
}

// awaitGone ends, because SIGKILL cannot be refused; a zombie has given up its memory.
func awaitGone(pid int) {
	for {
		if stat, err := readStat(pid); errors.Is(err, os.ErrNotExist) || stat.zombie() {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *Server) thaw() error {
	if s.freeze == nil {
		return nil
	}
	frozen := s.freeze
	s.freeze = nil
	return frozen.thaw()
}
