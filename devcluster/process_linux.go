package main

import "syscall"

// endWithParent makes a child end when this process ends without being able to
// end it.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
