package xec

import "syscall"

// attributes of every process: a session of its own, which is a process group
// to kill and leaves no terminal to prompt on, and death with the parent.
func attributes(a *syscall.SysProcAttr) {
	a.Setsid = true
	a.Pdeathsig = syscall.SIGKILL
}
