package pg

import (
	"errors"
	"os"
	"syscall"
)

// private refuses a key that others may read, as libpq does: root's may be read by its group.
func private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	forbidden := os.FileMode(0o077)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid == 0 {
		forbidden = 0o037
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&forbidden != 0 {
		return errors.New("may be read by others")
	}
	return nil
}
