//go:build !linux

package server

import "syscall"

// endWithParent cannot be had here: the next run ends the orphan.
func endWithParent(*syscall.SysProcAttr) {}
