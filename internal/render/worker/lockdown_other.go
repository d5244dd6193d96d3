//go:build !linux

package worker

import (
	"fmt"
	"runtime"

	"github.com/belaydev/belay/internal/render/wire"
)

// Lockdown does what it can where the kernel offers no Landlock and no seccomp,
// and says so.
func Lockdown(limits wire.Limits) (string, error) {
	runtime.GOMAXPROCS(2)
	if err := common(limits); err != nil {
		return "", err
	}
	return fmt.Sprintf("a process of its own, no environment, %d MiB of memory, %s per render; files and network are NOT locked on %s",
		limits.Memory>>20, limits.Deadline, runtime.GOOS), nil
}
