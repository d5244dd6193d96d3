//go:build !linux

package main

import "syscall"

// endWithParent has no counterpart here: a child outlives a killed parent.
func endWithParent() *syscall.SysProcAttr { return nil }
