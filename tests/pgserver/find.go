package pgserver

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound says that no PostgreSQL of the wanted major version is on this machine.
var ErrNotFound = errors.New("postgresql not found")

// Binaries is one installation of PostgreSQL.
type Binaries struct {
	// Dir holds at least initdb and postgres; pg_dump, psql and pgbench only in full installations.
	Dir string
	// Major is the version, such as 15.
	Major int
}

// Path returns where a program of this installation is, whether or not it exists.
func (b Binaries) Path(program string) string { return filepath.Join(b.Dir, program) }

// Has reports whether the installation has this program.
func (b Binaries) Has(program string) bool {
	_, err := exec.LookPath(b.Path(program))
	return err == nil
}

// Find returns the installation of a major version, or for major 0 the newest.
//
// It looks in $PGDTS_PG_BIN, in the directory that pg_config names, in /usr/lib/postgresql and in
// PATH, and then among those that Fetch has unpacked; the first of these that has the major wins.
// A fetched server is the newest only where nothing is installed, because it comes without pg_dump.
// The error is ErrNotFound where there is none; Find downloads nothing.
func Find(major int) (Binaries, error) {
	if found, ok := choose(installed(), major); ok {
		return found, nil
	}
	if found, ok := choose(fetched(), major); ok {
		return found, nil
	}
	if major == 0 {
		return Binaries{}, fmt.Errorf("find postgresql: %w: set PGDTS_PG_BIN to its bin directory", ErrNotFound)
	}
	return Binaries{}, fmt.Errorf("find postgresql %d: %w", major, ErrNotFound)
}

func choose(all []Binaries, major int) (Binaries, bool) {
	if len(all) == 0 {
		return Binaries{}, false
	}
	if major == 0 {
		return slices.MaxFunc(all, func(a, b Binaries) int { return cmp.Compare(a.Major, b.Major) }), true
	}
	at := slices.IndexFunc(all, func(b Binaries) bool { return b.Major == major })
	if at < 0 {
		return Binaries{}, false
	}
	return all[at], true
}

func installed() []Binaries {
	var dirs []string
	if named := os.Getenv("PGDTS_PG_BIN"); named != "" {
		dirs = append(dirs, named)
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	packaged, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // The pattern is constant and well formed.
	dirs = append(dirs, packaged...)
	return inspect(append(dirs, filepath.SplitList(os.Getenv("PATH"))...))
}

// fetched lists the unpacked packages in the cache.
func fetched() []Binaries {
	cache, err := cacheDir()
	if err != nil {
		return nil
	}
	dirs, _ := filepath.Glob(filepath.Join(cache, "*", binOfPackage))
	return inspect(dirs)
}

// inspect keeps the directories that hold a server.
func inspect(dirs []string) []Binaries {
	var all []Binaries
	for _, dir := range dirs {
		candidate := Binaries{Dir: dir}
		if !candidate.Has("initdb") || !candidate.Has("postgres") {
			continue
		}
		major, err := majorOf(candidate)
		if err != nil {
			continue
		}
		candidate.Major = major
		all = append(all, candidate)
	}
	return all
}

var versionLine = regexp.MustCompile(`PostgreSQL\) (\d+)`)

func majorOf(b Binaries) (int, error) {
	out, err := exec.Command(b.Path("postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("ask version of %s: %w", b.Path("postgres"), err)
	}
	match := versionLine.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("read version of %s: %q is not one", b.Path("postgres"), out)
	}
	return strconv.Atoi(string(match[1]))
}
