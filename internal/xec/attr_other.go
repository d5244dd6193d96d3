//go:build unix && !linux

package xec

import "syscall"

// attributes of every process: a session of its own, which is a process group
// to kill and leaves no terminal to prompt on. There is no death with the
// parent here; children end when their pipes close.
func attributes(a *syscall.SysProcAttr) { a.Setsid = true }
