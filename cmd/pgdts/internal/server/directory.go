package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Names of files in a state directory.
const (
	ReportFile  = "report.json"
	LogFile     = "run.log"
	addressFile = "address.json"
	lockFile    = "lock"
)

// Address is how other commands find a run that is alive.
type Address struct {
	PID     int          `json:"pid"`
	Address string       `json:"address"` // of the Temporal service; "" until it is up
	UI      string       `json:"ui,omitempty"`
	Version string       `json:"version"` // of pgdts
	ID      migration.ID `json:"id"`

	Birth     string `json:"birth,omitempty"`  // of PID, which another process may have by now
	Server    int    `json:"server,omitempty"` // pid of the child
	Namespace string `json:"namespace,omitempty"`
}

// alive reports whether the run that wrote the address still lives.
func (a Address) alive() bool { return a.PID > 0 && a.Birth != "" && birth(a.PID) == a.Birth }

// Directory is a state directory whose lock we hold.
type Directory struct {
	path    string
	lock    *os.File
	address Address
}

// HeldError says which living run works in the state directory.
type HeldError struct{ Address Address }

// Error is one sentence with the remedy.
func (e *HeldError) Error() string {
	return fmt.Sprintf("another `pgdts run` (pid %d) works on %s: watch it with `pgdts watch %s`, or end it with Ctrl-C there",
		e.Address.PID, e.Address.ID, e.Address.ID.Short())
}

// lockPatience bounds how long an orphaned child may take to end.
const lockPatience = 8 * time.Second

// Open makes the directory if need be and takes its lock. Beside a living run it gives a *HeldError at once; the
// orphaned child of a dead one it ends.
func Open(path string, id migration.ID, version string) (*Directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	d := &Directory{path: path, lock: lock}
	if err := d.takeLock(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	d.address = Address{PID: os.Getpid(), Birth: birth(os.Getpid()), Version: version, ID: id}
	if err := d.writeAddress(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

func (d *Directory) takeLock() error {
	deadline := time.Now().Add(lockPatience)
	for asked := false; ; {
		err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock state directory %s: %w", d.path, err)
		}
		// A holder that has only just taken the lock has not written its address yet: the old one is read once more.
		holder, _ := readAddress(d.path)
		if holder.alive() {
			return &HeldError{Address: holder}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("state directory %s is locked by a process that is not known: see `fuser %s`",
				d.path, filepath.Join(d.path, lockFile))
		}
		endOrphan(holder.Server, d.database(), &asked, deadline)
		time.Sleep(50 * time.Millisecond)
	}
}

// endOrphan asks the child of a dead run to end, and makes it end when half of the patience is over.
func endOrphan(pid int, database string, asked *bool, deadline time.Time) {
	if pid <= 0 || !runs(pid, database) {
		return
	}
	if !*asked {
		*asked = true
		_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended meanwhile
	} else if time.Until(deadline) < lockPatience/2 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Path is a file in the directory.
func (d *Directory) Path(name string) string { return filepath.Join(d.path, name) }

// Database is the file of the Temporal service.
func (d *Directory) database() string {
	absolute, err := filepath.Abs(d.path)
	if err != nil {
		absolute = d.path
	}
	return filepath.Join(absolute, "temporal.db")
}

// Forget removes the Temporal service's file, so that the next run begins without a history. Reports and logs stay.
func (d *Directory) Forget() error {
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		if err := os.Remove(d.database() + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("state directory: %w", err)
		}
	}
	return nil
}

// Publish lets other commands find the service that this run uses.
func (d *Directory) Publish(address, namespace string) error {
	d.address.Address, d.address.Namespace = address, namespace
	return d.writeAddress()
}

func (d *Directory) writeAddress() error {
	content, err := json.MarshalIndent(d.address, "", "  ")
	if err != nil {
		return fmt.Errorf("write address: %w", err)
	}
	return WriteFile(d.Path(addressFile), append(content, '\n'))
}

// WriteFile replaces a file whole: a reader, and a reader after a crash, sees the old content or the new.
func WriteFile(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// Close removes the address and gives the lock back. The child must have ended.
func (d *Directory) Close() error {
	err := os.Remove(d.Path(addressFile))
	return errors.Join(err, d.lock.Close())
}

func readAddress(path string) (Address, error) {
	var address Address
	content, err := os.ReadFile(filepath.Join(path, addressFile))
	if err == nil {
		err = json.Unmarshal(content, &address)
	}
	return address, err
}

// Root is where state directories are by default.
func Root() (string, error) {
	if root := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(root) {
		return filepath.Join(root, "pgdts"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("state directory: %w: give --state-dir", err)
	}
	return filepath.Join(home, ".local", "state", "pgdts"), nil
}

// Living lists the runs that are alive: in the directory itself, or in the directories right below it.
func Living(path string) []Address {
	below, _ := filepath.Glob(filepath.Join(path, "*", addressFile))
	candidates := []string{path}
	for _, file := range below {
		candidates = append(candidates, filepath.Dir(file))
	}
	var living []Address
	for _, candidate := range candidates {
		if address, err := readAddress(candidate); err == nil && address.alive() && address.Address != "" {
			living = append(living, address)
		}
	}
	slices.SortFunc(living, func(a, b Address) int { return a.PID - b.PID })
	return living
}
