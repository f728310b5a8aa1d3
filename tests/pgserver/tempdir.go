package pgserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	tempPattern = "pgdts-pg-*"
	ownerLock   = "owner.lock"
	// abandonedAfter spares directories that are just being made and not locked yet.
	abandonedAfter = time.Minute
)

// tempDir is a directory that belongs to this process: while it lives, it holds the lock.
type tempDir struct {
	path string
	lock *os.File
}

func makeTempDir() (*tempDir, error) {
	sweep()
	path, err := os.MkdirTemp("", tempPattern)
	if err != nil {
		return nil, fmt.Errorf("make temporary directory: %w", err)
	}
	// The server's user has to get in.
	if err := os.Chmod(path, 0o755); err != nil {
		return nil, fmt.Errorf("make temporary directory: %w", err)
	}
	lock, err := lockOwner(path)
	if err != nil {
		return nil, fmt.Errorf("lock temporary directory: %w", err)
	}
	return &tempDir{path: path, lock: lock}, nil
}

func (d *tempDir) remove() error {
	return errors.Join(os.RemoveAll(d.path), d.lock.Close())
}

// sweep removes what processes that were killed have left. It is best effort: a directory that is
// not ours to remove stays.
func sweep() {
	paths, _ := filepath.Glob(filepath.Join(os.TempDir(), tempPattern)) // The pattern is well formed.
	for _, path := range paths {
		info, err := os.Stat(filepath.Join(path, ownerLock))
		if err != nil || time.Since(info.ModTime()) < abandonedAfter {
			continue
		}
		lock, err := lockOwner(path)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(path)
		_ = lock.Close()
	}
}

// lockOwner fails at once when another process has the lock. The descriptor is not inherited by
// the server, so that the lock ends with us.
func lockOwner(path string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(path, ownerLock), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}
