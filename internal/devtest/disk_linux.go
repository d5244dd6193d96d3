package devtest

import (
	"os"
	"os/exec"
	"testing"
)

// envRequireAll is set where no test may be left out for want of something.
const envRequireAll = "BELAY_TEST_REQUIRE_ALL"

// Disk mounts a file system of its own with that much room, such as "16m", until the
// test ends.
func Disk(t testing.TB, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if os.Geteuid() != 0 && os.Getenv(envRequireAll) == "" {
		t.Skip("a small file system takes root's rights to mount")
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "none", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount a small file system: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return dir
}

// FillDisk writes a file until not a byte more fits.
func FillDisk(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
}
