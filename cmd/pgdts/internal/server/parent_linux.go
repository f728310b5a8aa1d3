package server

import "syscall"

// endWithParent makes the kernel end the child when the parent dies, SIGKILL of the parent included. The child's file
// survives its own SIGKILL, and the lock is free at once.
func endWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }
