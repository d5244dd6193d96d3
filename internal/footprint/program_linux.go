package footprint

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Find looks where the program lies. It reads /proc, so a process that locks itself
// in asks before that. Where nothing can be read there is nothing to let go of.
func Find() Program {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return Program{}
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return Program{}
	}
	defer func() { _ = f.Close() }() // only read
	return parse(bufio.NewScanner(f), exe)
}

// parse finds the mappings of a file that nobody writes to and nobody wrote to: what
// the linker changed on its way into memory (relocations) exists there alone.
// Source: proc_pid_smaps(5).
func parse(lines *bufio.Scanner, exe string) Program {
	var p Program
	var at *mapping
	for lines.Scan() {
		line := lines.Text()
		var start, end uintptr
		var perms string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &start, &end, &perms); n == 3 {
			at = nil
			if strings.HasSuffix(line, " "+exe) && len(perms) == 4 && perms[0] == 'r' && perms[1] == '-' {
				at = &mapping{start, end - start}
			}
			continue
		}
		// The line that tells comes after those of the mapping's size.
		if kb, ok := strings.CutPrefix(line, "Anonymous:"); ok && at != nil {
			if strings.Fields(kb)[0] == "0" {
				p.mappings = append(p.mappings, *at)
			}
			at = nil
		}
	}
	return p
}

// release lets go of a mapping's pages. Of a mapping of a file that was not written
// to, MADV_DONTNEED loses nothing: the next use reads the file again (madvise(2)).
func (m mapping) release() {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.size, unix.MADV_DONTNEED) // if it fails, the pages stay
}
