package xec

import "os/exec"

// LookPath finds a program in this process's PATH.
func LookPath(name string) (string, error) { return exec.LookPath(name) }
