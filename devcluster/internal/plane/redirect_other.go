//go:build !linux

package plane

import (
	"os"

	"golang.org/x/sys/unix"
)

// redirect makes a file descriptor another name of a file.
func redirect(f *os.File, fd int) error { return unix.Dup2(int(f.Fd()), fd) }
