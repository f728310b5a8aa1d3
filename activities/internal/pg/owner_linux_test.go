package pg_test

import (
	"os"
	"syscall"
	"testing"
)

// ownAs gives a file to the owner of a directory: a server refuses a key that belongs to another user.
func ownAs(t *testing.T, path, dir string) {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
}
