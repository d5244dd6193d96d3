//go:build !linux

package render_test

import "syscall"

func ptrace(int) error { return syscall.EPERM }
